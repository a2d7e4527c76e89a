"""Training the variants of a net in turn, and what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any, Protocol

import numpy as np

import fastact as fa
from fastact import baseline
from fastact.cli.training.digits import Digits, load_digits
from fastact.cli.training.layers import Array
from fastact.cli.training.net import Net, Settings, initial_weights
from fastact.cli.training.timing import (
    Clock,
    Noise,
    blas_threads,
    clock_for,
    fastest_blas_threads,
    keep_memory,
    load,
    spread,
)

#: How far losses of two variants may differ in the first steps, relative to the first loss: later, training amplifies
#: rounding errors without bounds.
TOLERANCE = {"float32": 1e-3, "float64": 1e-9}
COMPARED_STEPS = 20


class Variant(Protocol):
    """A net that can be trained."""

    def step(self, images: Array, labels: Array) -> float:
        """Update all parameters, and return the loss before it."""

    def forward(self, x: Array) -> Array:
        """Return the logits."""

    def seconds(self) -> dict[str, float]:
        """Return the seconds in each part since the last call."""


@dataclass
class Run:
    """The training of one variant.

    Attributes
    ----------
    epochs : int
        The number of epochs.
    steps : list of float
        The seconds of each step.
    parts : dict of str to list of float
        The seconds of each step in each part, where they are measured.
    losses : list of float
        The loss of each step.
    first_step : float
        The seconds of a step before training: fastact compiles its kernels, or loads them.
    accuracy : float
        The fraction of test images that are classified correctly in the end.
    """

    epochs: int
    steps: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    first_step: float = 0.0
    accuracy: float = 0.0

    @property
    def step(self) -> float:
        """The median seconds of a step."""
        return median(self.steps)

    def part(self, name: str) -> float:
        """Return the median seconds of a step in a part."""
        return median(self.parts[name])

    def by_epoch(self, numbers: Sequence[float]) -> Array:
        """Return the numbers of all steps, a row for each epoch."""
        return np.reshape(numbers, (self.epochs, -1))


@dataclass(frozen=True)
class Comparison:
    """The training of all variants.

    Attributes
    ----------
    settings : Settings
        The net.
    runs : dict of str to Run
        By the variant's name: "NumPy", "fastact" and perhaps "PyTorch".
    blas_threads : int
        The number of threads of BLAS.
    noise : Noise
        Signs that the machine was busy.
    is_own_time : bool
        Whether times exclude what other processes took.
    """

    settings: Settings
    runs: dict[str, Run]
    blas_threads: int
    noise: Noise
    is_own_time: bool

    @property
    def difference(self) -> float:
        """How far the losses of variants differ from NumPy's in the first steps, relative to the first."""
        theirs = np.array(self.runs["NumPy"].losses[:COMPARED_STEPS])
        others = np.array([run.losses[:COMPARED_STEPS] for run in self.runs.values()])
        return float(np.max(np.abs(others - theirs)) / theirs[0])

    @property
    def diverged(self) -> bool:
        """Whether a loss is infinite or NaN."""
        return not all(np.all(np.isfinite(run.losses)) for run in self.runs.values())

    @property
    def agrees(self) -> bool:
        """Whether the losses differ only by rounding."""
        return self.difference <= TOLERANCE[self.settings.dtype]

    def faster(self, part: str | None = None) -> float:
        """Return how many times faster than NumPy fastact is, in the whole step or a part."""
        ours, theirs = self.runs["fastact"], self.runs["NumPy"]
        return theirs.part(part) / ours.part(part) if part else theirs.step / ours.step


@np.errstate(all="ignore")  # some activations overflow
def compare(
    settings: Settings, with_torch: bool = False, after_epoch: Callable[[], object] = lambda: None
) -> Comparison:
    """Train all variants from the same weights, with the same images in the same order.

    Parameters
    ----------
    settings : Settings
        The net.
    with_torch : bool
        Whether PyTorch takes part.
    after_epoch : callable
        Called after each epoch, for a progress bar.
    """
    before, digits = load(), load_digits(settings)
    example = next(digits.batches(np.arange(len(digits.images)), settings.batch_size))
    weights = initial_weights(settings, example[0])
    keep_memory()
    threads = fastest_blas_threads(partial(_net(settings, weights, baseline.get).step, *example))
    columns = max(each.shape[1] for each in weights)
    clock = clock_for(threads, settings.batch_size * columns)
    make: dict[str, Callable[[], Variant]] = {
        "NumPy": partial(_net, settings, weights, baseline.get, clock),
        "fastact": partial(_net, settings, weights, fa.get, clock),
    }
    if with_torch:
        from fastact.cli.training.torch_net import TorchNet

        make["PyTorch"] = partial(TorchNet, settings, weights, threads)
    runs = {name: Run(settings.epochs) for name in make}
    with blas_threads(threads):
        for name, run in runs.items():
            start = time.perf_counter()
            make[name]().step(*example)
            run.first_step = time.perf_counter() - start
        nets = {name: new() for name, new in make.items()}
        taken = _train(nets, runs, digits, settings, clock, after_epoch)
        for name, net in nets.items():
            right = net.forward(digits.test_images).argmax(axis=1) == digits.test_labels
            runs[name].accuracy = float(np.mean(right))
    numpy, ours = (
        runs[name].by_epoch(runs[name].steps).sum(axis=1) for name in ("NumPy", "fastact")
    )
    noise = Noise(before, taken, spread(list(numpy / ours)))
    return Comparison(settings, runs, threads, noise, clock is time.thread_time)


def _net(
    settings: Settings,
    weights: list[Array],
    get: Callable[[str], Any],
    clock: Clock = time.perf_counter,
) -> Net:
    return Net(settings, weights, get(settings.activation), get("softmax_cross_entropy"), clock)


def _train(
    nets: dict[str, Variant],
    runs: dict[str, Run],
    digits: Digits,
    settings: Settings,
    clock: Clock,
    after_epoch: Callable[[], object],
) -> float:
    """Train all nets, an epoch each in turn, and return the share of the time that others took."""
    random, size = np.random.default_rng(settings.seed), settings.batch_size
    wall, own = time.perf_counter(), time.thread_time()
    for _ in range(settings.epochs):
        order = random.permutation(len(digits.images))
        # Epochs are short, and so a slow moment of the machine affects all.
        for name, net in nets.items():
            run = runs[name]
            net.seconds()
            for images, labels in digits.batches(order, size):
                start = clock()
                run.losses.append(net.step(images, labels))
                run.steps.append(clock() - start)
                for part, seconds in net.seconds().items():
                    run.parts.setdefault(part, []).append(seconds)
        after_epoch()
    wall, own = time.perf_counter() - wall, time.thread_time() - own
    return max(0.0, 1 - own / wall)
