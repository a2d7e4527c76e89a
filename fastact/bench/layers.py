"""Rows, layers and a bias before an activation beside their peers: what ``fastact bench --layers`` runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastact as fa
from fastact import baseline
from fastact.bench import report
from fastact.bench.contenders import IMPLEMENTATIONS
from fastact.bench.limit import limit_of
from fastact.bench.peers import Call, package
from fastact.bench.timing import Contender

Array = NDArray[Any]

#: What is compared, and the shapes of the input: those of classifiers, of language models and of attention.
WORKLOADS: tuple[tuple[str, tuple[int, int]], ...] = (
    ("softmax", (8192, 1000)),
    ("softmax", (64, 50257)),
    ("softmax", (100_000, 16)),
    ("log_softmax", (8192, 1000)),
    ("softmax_cross_entropy", (8192, 1000)),
    ("swiglu", (4096, 8192)),
    ("gelu", (8192, 3072)),
)
OPERATION = "forward_backward"
# What stands for arrays that have no gradient, by the name of the argument, or of function and argument.
_CONSTANTS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "targets": lambda random, shape: random.integers(0, shape[-1], shape[:-1]),
    "sigmoid_binary_cross_entropy.targets": lambda random, shape: random.random(shape, np.float32),
}


@dataclass(frozen=True)
class Workload:
    """A value with its gradients, and the arrays that everybody computes it on.

    Attributes
    ----------
    name : str
        What fastact and the baseline call it.
    inputs : tuple of ndarray
        Those that have gradients: normal deviates times 4, and for a pointwise activation a bias; the weights of
        a linear layer, which has as many classes as features.
    constants : tuple of ndarray
        Those that have none, such as labels.
    dy : ndarray or None
        The gradient by the output; None for a loss, which is itself what is differentiated.
    options : dict
        What else fastact's call takes, such as a seed.
    """

    name: str
    inputs: tuple[Array, ...]
    constants: tuple[Array, ...] = ()
    dy: Array | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, shape: tuple[int, ...], dtype: str = "float32") -> Workload:
        """Return a function of rows, a layer, or a pointwise activation with a bias, on an input of a shape.

        Raises
        ------
        NotImplementedError
            If it needs arrays that nothing here stands for.
        """
        random, function = np.random.default_rng(20), getattr(fa, name)

        def deviates(shape: tuple[int, ...]) -> Array:
            return (random.standard_normal(shape) * 4).astype(dtype)

        x = deviates(shape)
        if name in fa.names():
            return cls(name, (x, deviates(shape[-1:])), dy=deviates(shape))
        arguments = inspect.signature(function.forward_backward).parameters
        options = {"rng": 0} if "rng" in arguments else {}
        _, *others = (each.name for each in arguments.values() if _is_required(each))
        if not others or others == ["dy"]:  # those of a gated unit are any number
            dy = deviates(np.shape(function(x, **options)))
            return cls(name, (x,), dy=dy, options=options)
        inputs = [x]
        if "weight" in others:
            others.remove("weight")
            inputs.append(deviates((shape[-1], shape[-1])))
        missing = ", ".join(other for other in others if other not in _CONSTANTS)
        if missing:
            raise NotImplementedError(f"there are no arrays for {missing} of {name}")
        constants = tuple(
            _CONSTANTS.get(f"{name}.{other}", _CONSTANTS[other])(random, shape) for other in others
        )
        return cls(name, tuple(inputs), constants, options=options)

    @property
    def title(self) -> str:
        """What tables call it."""
        return f"{self.name}{' with bias' if self.has_bias else ''} {self.inputs[0].shape}"

    @property
    def has_bias(self) -> bool:
        """Whether the last input is a bias."""
        return self.name in fa.names()

    @property
    def arrays(self) -> list[Array]:
        """All that is read."""
        return [*self.inputs, *self.constants, *([] if self.dy is None else [self.dy])]


def _is_required(argument: inspect.Parameter) -> bool:
    """Whether a call must have the argument, by its place."""
    places = (argument.POSITIONAL_ONLY, argument.POSITIONAL_OR_KEYWORD)
    return argument.default is argument.empty and argument.kind in places


# Whose baseline needs the normal distribution.
_WITH_SCIPY = ("gelu", "geglu")

# The contenders ---------------------------------------------------------------------------------


def _native(function: Any, work: Workload) -> Call:
    inputs, options = [*work.inputs], dict(work.options)
    if work.has_bias:
        options["bias"] = inputs.pop()
    others = work.constants if work.dy is None else (work.dy,)
    return partial(function.forward_backward, *inputs, *others, **options)


def _ours(work: Workload) -> Call:
    return _native(getattr(fa, work.name), work)


def _numpy(work: Workload) -> Call:
    function = getattr(baseline, work.name, None)
    if not isinstance(function, baseline.Baseline):
        raise NotImplementedError(f"there is no baseline of {work.name}")
    if work.name in _WITH_SCIPY and find_spec("scipy") is None:
        raise NotImplementedError(f"the baseline of {work.name} needs SciPy")
    return _native(function, work)


def _torch_swiglu(functional: Any, x: Any) -> Any:
    gate, value = x.chunk(2, -1)
    return functional.silu(gate) * value


_TORCH: dict[str, Callable[..., Any]] = {
    "softmax": lambda functional, x: functional.softmax(x, -1),
    "log_softmax": lambda functional, x: functional.log_softmax(x, -1),
    "softmax_cross_entropy": lambda functional, x, labels: functional.cross_entropy(x, labels),
    "swiglu": _torch_swiglu,
    "gelu": lambda functional, x, bias: functional.gelu(x + bias),
}


def _torch(work: Workload) -> Call:
    """Return what a user of PyTorch writes, with its automatic differentiation."""
    torch, function = package("torch"), _formula(_TORCH, work)
    inputs = [torch.from_numpy(array).requires_grad_() for array in work.inputs]
    constants = [torch.from_numpy(array) for array in work.constants]
    dy = None if work.dy is None else torch.from_numpy(work.dy)

    def call() -> Any:
        y = function(torch.nn.functional, *inputs, *constants)
        return y.detach(), *torch.autograd.grad(y, inputs, dy)

    return call


def _jax_cross_entropy(jax: Any, x: Any, labels: Any) -> Any:
    chosen = jax.numpy.take_along_axis(x, labels[:, None], axis=-1)[:, 0]
    return (jax.nn.logsumexp(x, axis=-1) - chosen).mean()


def _jax_swiglu(jax: Any, x: Any) -> Any:
    gate, value = jax.numpy.split(x, 2, axis=-1)
    return jax.nn.silu(gate) * value


_JAX: dict[str, Callable[..., Any]] = {
    "softmax": lambda jax, x: jax.nn.softmax(x),
    "log_softmax": lambda jax, x: jax.nn.log_softmax(x),
    "softmax_cross_entropy": _jax_cross_entropy,
    "swiglu": _jax_swiglu,
    "gelu": lambda jax, x, bias: jax.nn.gelu(x + bias, approximate=False),
}


def _jax(work: Workload) -> Call:
    """Return what a user of JAX writes: one jitted function."""
    jax, function = package("jax"), _formula(_JAX, work)

    def both(inputs: Any, constants: Any, dy: Any) -> Any:
        y, gradients = jax.vjp(lambda *inputs: function(jax, *inputs, *constants), *inputs)
        return y, *gradients(jax.numpy.ones_like(y) if dy is None else dy)

    arrays = jax.tree.map(jax.numpy.asarray, (work.inputs, work.constants, work.dy))
    call = jax.jit(both)
    return lambda: jax.block_until_ready(call(*arrays))


def _formula(known: dict[str, Callable[..., Any]], work: Workload) -> Callable[..., Any]:
    if work.name not in known:
        raise NotImplementedError(f"there is no formula of {work.name}")
    return known[work.name]


#: Who competes; each takes a `Workload` and returns the call without arguments.
MAKERS: dict[str, Callable[[Workload], Call]] = {
    "fastact": _ours,
    "numpy": _numpy,
    "torch": _torch,
    "jax": _jax,
}


# The comparison ---------------------------------------------------------------------------------


def available(
    workloads: Sequence[tuple[str, tuple[int, int]]],
) -> list[tuple[str, tuple[int, int]]]:
    """Return those whose function there is."""
    return [each for each in workloads if hasattr(fa, each[0])]


def measure(
    workloads: Sequence[tuple[str, tuple[int, int]]], settings: report.Settings
) -> Iterator[report.Result]:
    """Measure all workloads, everybody in turn; of the settings, who takes part and how often count."""
    for implementation in settings.implementations:
        IMPLEMENTATIONS[implementation].set_threads(fa.get_num_threads())
    for workload in workloads:
        yield _measure_one(Workload.of(*workload), settings)


def _measure_one(work: Workload, settings: report.Settings) -> report.Result:
    calls: dict[str, Call] = {}
    ours = _ours(work)()
    for implementation in settings.implementations:
        try:
            call = MAKERS[implementation](work)
        except NotImplementedError:
            continue
        if report.agree(ours, call()):
            calls[implementation] = call
    moved = sum(array.nbytes for array in (*work.arrays, *map(np.asarray, ours)))
    del ours
    contenders = {name: Contender(call) for name, call in calls.items()}
    times, limit = report.time_beside(contenders, limit_of(moved), 1.0, settings)
    return report.Result(work.title, OPERATION, work.inputs[0].size, times, limit)


# The page ---------------------------------------------------------------------------------------

HEADING = "## Rows and layers\n"
_SECTION = (
    HEADING
    + """
What `fastact bench --layers` measured: value and gradients in one call, `fa.<name>.forward_backward(x, dy)`, with
`bias=` for the activation and `(logits, labels)` for the loss, whose value is the mean. float32, new outputs for
everybody; PyTorch is eager mode with its automatic differentiation (`torch.autograd.grad`), JAX one jitted function.
They take turns as above. The streaming limit is a loop that loads and stores as many bytes.

{where}

{summary}

"""
)
TITLE = (
    "Value and gradients: median time of a call, the share of the streaming limit, and how many times longer "
    "the others take"
)


def markdown_section(
    results: Sequence[report.Result], settings: report.Settings, where: str
) -> str:
    """Return the section for the documentation, which ends the page."""
    table = report.markdown_table(TITLE, report.rows(results, settings.implementations, True))
    return _SECTION.format(where=where, summary=report.summary(results)) + table


def replace_section(page: str, section: str) -> str:
    """Return a page with another section in place of its last."""
    return f"{page.partition(HEADING)[0].rstrip()}\n\n{section}".lstrip()


def keep_section(old_page: str, page: str) -> str:
    """Return a page with the last section of the page that it replaces."""
    _, heading, section = old_page.partition(HEADING)
    return replace_section(page, heading + section) if heading else page
