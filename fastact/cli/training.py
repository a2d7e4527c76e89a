"""Train a network on handwritten digits twice: with fastact, and with plain NumPy.

The network is minimal and written out in full: 64 pixels, one wide hidden layer, 10 classes,
trained by gradient descent with momentum. The two runs start from the same weights and see the same
images in the same order. They differ only in the implementation of the activation function, so
their losses must agree, and the clock shows what fastact saves.

Run it with ``fastact demo``; for the use of fastact in a network of your own, read `Elementwise`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

import fastact
from fastact import baseline

if TYPE_CHECKING:
    from rich.table import Table

Array: TypeAlias = NDArray[Any]

#: How far the two losses of an epoch may differ, relative to the loss.
LARGEST_DIFFERENCE = {"float32": 1e-2, "float64": 1e-8}


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of both runs.

    Attributes
    ----------
    dtype : str
        "float32" or "float64".
    epochs : int
        The number of passes over the images.
    hidden : int
        The number of hidden units.
    batch_size : int
        The number of images in one step.
    learning_rate, momentum : float
        The parameters of gradient descent.
    seed : int
        Determines the test set, the initial weights and the order of the images.
    """

    dtype: str = "float32"
    epochs: int = 60
    hidden: int = 1024
    batch_size: int = 256
    learning_rate: float = 0.05
    momentum: float = 0.9
    seed: int = 0


# The data --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """Images of 8 x 8 pixels with mean 0, and their labels."""

    images: Array
    labels: NDArray[np.intp]
    test_images: Array
    test_labels: NDArray[np.intp]


def load_digits(settings: Settings) -> Digits:
    """Load scikit-learn's digits, with a random fifth held out as the test set."""
    from sklearn import datasets

    pixels, labels = datasets.load_digits(return_X_y=True)
    images = (pixels / 16 - 0.5).astype(settings.dtype)
    order = np.random.default_rng(settings.seed).permutation(len(images))
    test, train = np.split(order, [len(images) // 5])
    return Digits(images[train], labels[train], images[test], labels[test])


# The hidden layer's activation: the calls of fastact or the baseline -----------------------------


class Activation(Protocol):
    """The interface of an activation in the network. Results are written to given arrays."""

    parameters: list[Array]

    def forward(self, z: Array, y: Array) -> None:
        """Write the value of each unit to `y`."""

    def backward(self, dy: Array, z: Array, dz: Array) -> list[Array]:
        """Write the gradient to `dz`, and return the gradients of the parameters."""


@dataclass
class Elementwise:
    """An elementwise activation; `function` is fastact's or the baseline's."""

    function: Any
    parameters: list[Array] = field(default_factory=list)

    def forward(self, z: Array, y: Array) -> None:
        """Write the value of each unit to `y`."""
        self.function(z, out=y)

    def backward(self, dy: Array, z: Array, dz: Array) -> list[Array]:
        """Write the gradient to `dz`."""
        self.function.backward(dy, z, out=dz)
        return []


@dataclass
class Prelu:
    """A rectifier with a learned negative slope for each unit."""

    function: Any
    parameters: list[Array]

    def forward(self, z: Array, y: Array) -> None:
        """Write the value of each unit to `y`."""
        self.function(z, self.parameters[0], out=y)

    def backward(self, dy: Array, z: Array, dz: Array) -> list[Array]:
        """Write the gradient to `dz`, and return the gradient of the slopes."""
        _, dweight = self.function.backward(dy, z, self.parameters[0], out=(dz, None))
        return [dweight]


@dataclass
class Maxout:
    """The maximum of two adjacent units; the gradient flows back to the larger one."""

    function: Any
    parameters: list[Array] = field(default_factory=list)
    which: Array | None = None

    def forward(self, z: Array, y: Array) -> None:
        """Write the value of each unit to `y`, and save the index of the maximum."""
        _, self.which = self.function.forward_with_index(z, 2, out=(y, None))

    def backward(self, dy: Array, z: Array, dz: Array) -> list[Array]:
        """Write the gradient to `dz`."""
        self.function.backward(dy, self.which, 2, out=dz)
        return []


def activation_layer(name: str, function: Any, settings: Settings) -> Activation:
    """Return the activation called `name`, computed by `function`."""
    if name == "maxout":
        return Maxout(function)
    if name == "prelu":
        return Prelu(function, [np.full(settings.hidden, 0.25, dtype=settings.dtype)])
    return Elementwise(function)


# The network -----------------------------------------------------------------------------------


@dataclass
class Stopwatch:
    """The total time spent in its `with` blocks."""

    seconds: float = 0.0
    start: float = 0.0

    def __enter__(self) -> None:
        """Start."""
        self.start = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        """Stop, and add to the total."""
        self.seconds += time.perf_counter() - self.start


class Network:
    """One hidden layer, softmax cross-entropy, and gradient descent with momentum."""

    def __init__(self, name: str, function: Any, settings: Settings) -> None:
        self.settings = settings
        self.activation = activation_layer(name, function, settings)
        self.in_activations = Stopwatch()
        self.in_all = Stopwatch()
        random = np.random.default_rng(settings.seed)
        inputs = 2 * settings.hidden if name == "maxout" else settings.hidden
        self.parameters = [
            self._weights(random, 64, inputs),
            np.zeros(inputs, dtype=settings.dtype),
            self._weights(random, settings.hidden, 10),
            np.zeros(10, dtype=settings.dtype),
            *self.activation.parameters,
        ]
        self.velocities = [np.zeros_like(parameter) for parameter in self.parameters]
        self.gradients = [np.zeros_like(parameter) for parameter in self.parameters]
        # Reused in every step: the operating system clears each page of a new array, which takes
        # longer than the arithmetic.
        shapes = (inputs, settings.hidden, settings.hidden, inputs)
        self.buffers = [
            np.empty((settings.batch_size, columns), dtype=settings.dtype) for columns in shapes
        ]

    def _weights(self, random: np.random.Generator, rows: int, columns: int) -> Array:
        """Return random weights that preserve variance through a rectifier (He initialization)."""
        weights: Array = random.standard_normal((rows, columns)) * np.sqrt(2 / rows)
        return weights.astype(self.settings.dtype)

    def train_epoch(self, images: Array, labels: NDArray[np.intp], order: Array) -> float:
        """Take one step for each batch, and return the mean loss."""
        total = 0.0
        with self.in_all:
            for start in range(0, len(order), self.settings.batch_size):
                batch = order[start : start + self.settings.batch_size]
                total += len(batch) * self.step(images[batch], labels[batch])
        return total / len(order)

    def step(self, images: Array, labels: NDArray[np.intp]) -> float:
        """Update all parameters by one step of gradient descent, and return the loss before it."""
        weights, bias, output_weights, output_bias, *_ = self.parameters
        z, y, dy, dz = (buffer[: len(images)] for buffer in self.buffers)
        np.matmul(images, weights, out=z)
        z += bias
        with self.in_activations:
            self.activation.forward(z, y)
        logits = y @ output_weights + output_bias

        logits -= logits.max(axis=1, keepdims=True)  # so that exp does not overflow
        exponentials = np.exp(logits)
        sums = exponentials.sum(axis=1, keepdims=True)
        rows = np.arange(len(labels))
        loss = np.mean(np.log(sums[:, 0]) - logits[rows, labels])

        dlogits = exponentials / sums
        dlogits[rows, labels] -= 1
        dlogits /= len(labels)
        np.matmul(dlogits, output_weights.T, out=dy)
        with self.in_activations:
            dparameters = self.activation.backward(dy, z, dz)
        np.matmul(images.T, dz, out=self.gradients[0])
        np.sum(dz, axis=0, out=self.gradients[1])
        np.matmul(y.T, dlogits, out=self.gradients[2])
        np.sum(dlogits, axis=0, out=self.gradients[3])
        self.gradients[4:] = dparameters

        for parameter, velocity, gradient in zip(
            self.parameters, self.velocities, self.gradients, strict=True
        ):
            velocity *= self.settings.momentum
            gradient *= self.settings.learning_rate
            velocity -= gradient
            parameter += velocity
        return float(loss)

    def accuracy(self, images: Array, labels: NDArray[np.intp]) -> float:
        """Return the fraction of images that are classified correctly."""
        weights, bias, output_weights, output_bias, *_ = self.parameters
        y = np.empty((len(images), self.settings.hidden), dtype=self.settings.dtype)
        self.activation.forward(images @ weights + bias, y)
        logits = y @ output_weights + output_bias
        return float(np.mean(logits.argmax(axis=1) == labels))


# The two runs ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """The result of one training run.

    Attributes
    ----------
    losses : tuple of float
        The mean loss of each epoch.
    accuracy : float
        The fraction of test images that are classified correctly.
    seconds_in_activations, seconds : float
        The time in the activation function, and in total.
    """

    losses: tuple[float, ...]
    accuracy: float
    seconds_in_activations: float
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """The two runs with one activation."""

    activation: str
    settings: Settings
    fastact: Run
    numpy: Run

    @property
    def largest_difference(self) -> float:
        """The largest relative difference between the two losses of an epoch."""
        ours, theirs = np.array(self.fastact.losses), np.array(self.numpy.losses)
        # NaN if both diverged, which is not agreement either.
        return float(np.max(np.abs(ours - theirs) / np.abs(theirs)))

    @property
    def agrees(self) -> bool:
        """Whether the losses differ only by rounding."""
        return self.largest_difference <= LARGEST_DIFFERENCE[self.settings.dtype]

    @property
    def speedup_in_activations(self) -> float:
        """The speed-up of the activation function with fastact."""
        return self.numpy.seconds_in_activations / self.fastact.seconds_in_activations

    @property
    def speedup(self) -> float:
        """The speed-up of the whole training with fastact."""
        return self.numpy.seconds / self.fastact.seconds


def compare(
    name: str, settings: Settings, after_epoch: Callable[[], object] = lambda: None
) -> Comparison:
    """Train with fastact and with NumPy, and compare.

    Parameters
    ----------
    name : str
        The name of the activation.
    settings : Settings
        The hyperparameters.
    after_epoch : callable
        Called after each epoch, for a progress bar.
    """
    digits = load_digits(settings)
    functions = {"fastact": fastact.get(name), "numpy": baseline.get(name)}
    for function in functions.values():
        # Warm up: fastact compiles a function on its first call.
        network = Network(name, function, settings)
        network.step(digits.images[: settings.batch_size], digits.labels[: settings.batch_size])

    networks = {
        implementation: Network(name, function, settings)
        for implementation, function in functions.items()
    }
    losses: dict[str, list[float]] = {implementation: [] for implementation in networks}
    random = np.random.default_rng(settings.seed)
    for _ in range(settings.epochs):
        order = random.permutation(len(digits.images))
        # Epochs in turn, so that a slow moment of the machine affects both.
        for implementation, network in networks.items():
            losses[implementation].append(network.train_epoch(digits.images, digits.labels, order))
        after_epoch()
    runs = {
        implementation: Run(
            tuple(losses[implementation]),
            network.accuracy(digits.test_images, digits.test_labels),
            network.in_activations.seconds,
            network.in_all.seconds,
        )
        for implementation, network in networks.items()
    }
    return Comparison(name, settings, **runs)


# Output ----------------------------------------------------------------------------------------


def compare_all(names: Sequence[str], settings: Settings) -> Iterator[Comparison]:
    """Yield the comparison for each activation, with a progress bar."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=len(names) * settings.epochs)
        for name in names:
            progress.update(task, description=f"training with {name:10}")
            yield compare(name, settings, after_epoch=lambda: progress.advance(task))


def table(comparisons: Sequence[Comparison]) -> Table:
    """Return the results as a table of at most 80 columns."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("activation", "by"):
        table.add_column(heading, no_wrap=True)
    for heading in (
        "test\naccuracy",
        "seconds in\nactivation",
        "\nspeed-up",
        "seconds\nin all",
        "\nspeed-up",
        "loss\ndiffers",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in comparisons:
        numpy, ours = each.numpy, each.fastact
        seconds = f"{numpy.seconds_in_activations:.3f}", "", f"{numpy.seconds:.3f}"
        table.add_row(each.activation, "NumPy", f"{numpy.accuracy:.1%}", *seconds)
        table.add_row(
            "",
            "fastact",
            f"{ours.accuracy:.1%}",
            f"{ours.seconds_in_activations:.3f}",
            f"{each.speedup_in_activations:.1f} x",
            f"{ours.seconds:.3f}",
            f"{each.speedup:.1f} x",
            f"{each.largest_difference:.0e}",
        )
    return table


def draw(comparisons: Sequence[Comparison], path: Path) -> None:
    """Write the loss curves to a PNG file, one panel for each activation."""
    from matplotlib.figure import Figure

    columns = min(len(comparisons), 4)
    rows = -(-len(comparisons) // columns)
    size = (6.4, 4.4) if columns == 1 else (3.2 * columns, 3.0 * rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for panel, each in zip(panels, comparisons, strict=False):
        epochs = range(1, each.settings.epochs + 1)
        # The curves coincide: a broad one below a thin one.
        panel.plot(epochs, each.numpy.losses, color="#f2b277", linewidth=6, label="NumPy")
        panel.plot(epochs, each.fastact.losses, color="#1f4e79", linewidth=1.5, label="fastact")
        panel.set_yscale("log")
        panel.set_title(f"{each.activation} ({each.fastact.accuracy:.1%} accuracy)")
        panel.grid(alpha=0.3)
    for panel in panels[len(comparisons) :]:
        panel.axis("off")
    figure.supxlabel("epoch")
    figure.supylabel("training loss")
    panels[0].legend()
    figure.savefig(path, format="png", dpi=150)
