"""The rows of the table: a call of fastact, and plain NumPy for the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, TypeAlias

import numpy as np

import fastact as fa
from benchmarks.nets.numpy_parts import Array, no_future
from benchmarks.small_calls import plain
from fastact.bench.contenders import make_call
from fastact.bench.peers import Call
from fastact.bench.workloads import Workload

#: Raises an AssertionError if the results of two calls differ.
Agree: TypeAlias = Callable[[Any, Any], None]
Deviates: TypeAlias = Callable[..., Array]

#: The most that a call may take of plain NumPy's time, unless `BUDGETS` asks for less.
BUDGET = 1.0
BUDGETS = {"softmax_cross_entropy": 0.4, "dropout": 0.8}
#: The shapes of the first input, by kind, for functions without options.
SHAPES: dict[str, tuple[tuple[int, int], ...]] = {
    "activation": ((32, 100), (20, 100), (1, 100)),
    "row": ((32, 10), (16, 16), (1, 100)),
    "packed": ((32, 100), (1, 100)),
    "cell": ((20, 400), (1, 400)),
    "normalization": ((32, 100), (20, 100)),
    "loss": ((32, 10), (1, 100)),
}
P = 0.5


@dataclass(frozen=True)
class Row:
    """A call, and calls of plain NumPy for the same, of which the fastest counts.

    Attributes
    ----------
    title : str
        What is called.
    x : ndarray
        The input on which the yardstick is measured.
    ours : callable
        The call of fastact.
    plain : tuple of callable
        Those of NumPy.
    agree : callable
        Compares their results.
    """

    title: str
    x: Array
    ours: Call
    plain: tuple[Call, ...]
    agree: Agree

    @property
    def budget(self) -> float:
        """The most that our call may take of NumPy's time."""
        return BUDGETS.get(self.title.partition("(")[0].partition(".")[0], BUDGET)

    def check(self) -> None:
        """Raise an AssertionError if results differ."""
        for call in self.plain:
            try:
                self.agree(self.ours(), call())
            except AssertionError as error:
                raise AssertionError(f"{self.title} {self.x.shape}: {error}") from None


def are_close(ours: Any, theirs: Any) -> None:
    """Compare all results, to rounding."""
    pairs = zip(_as_tuple(ours), _as_tuple(theirs), strict=True)
    for our, their in ((np.asarray(a), np.asarray(b)) for a, b in pairs):
        few = 500 * float(np.finfo(our.dtype).eps)
        np.testing.assert_allclose(our, their, few, few * max(1.0, float(abs(our).max())))


def have_one_shape(ours: Any, theirs: Any) -> None:
    """Compare the shapes and dtypes of all results."""
    for our, their in zip(_as_tuple(ours), _as_tuple(theirs), strict=True):
        assert (our.shape, our.dtype) == (their.shape, their.dtype)


def all_rows(dtype: str) -> Iterator[Row]:
    """Yield all rows: those that derive from the catalogue, and calls with options."""
    for name in fa.names(*SHAPES):
        kind = fa.get(name).kind
        for shape, with_bias in product(SHAPES[kind], (False, True)[: 1 + (kind == "activation")]):
            with suppress(NotImplementedError):  # there is no plain NumPy for it
                yield from derived(Workload.of(name, shape, dtype, with_bias))
    random = np.random.default_rng(0)

    def deviates(*shape: int) -> Array:
        deviates: Array = random.standard_normal(shape).astype(dtype)
        return deviates

    for shape in SHAPES["activation"]:
        yield from fused(deviates, shape)
    yield from dropouts(deviates, (20, 100))
    yield from rows_with_options(deviates)
    yield from gates_with_options(deviates, (32, 100))
    for shape in SHAPES["normalization"]:
        yield from learned(deviates, shape)


def derived(work: Workload) -> Iterator[Row]:
    """Yield the rows of a function, perhaps with a bias: plain NumPy is a formula, the baseline, or both."""
    formula = plain.FUNCTIONS.get(work.name)
    arrays, options = [*work.inputs, *work.constants], dict(work.parameters)
    if work.has_bias:
        formula = None if formula is None or options else plain.with_bias(formula)
    ready = formula and partial(formula, *arrays, **options)
    if work.has_bias:
        options["bias"] = arrays.pop()
    # Random numbers are others in NumPy.
    agree = have_one_shape if "rng" in options else are_close
    others = partial(baseline, work)
    yield from passes(work.name, arrays, options, work.dys, ready, others, agree=(agree, agree))


def baseline(work: Workload, operation: str) -> tuple[Call, ...]:
    """Return the call of the baseline, if there is one."""
    try:
        return (make_call(work, "numpy", operation),)
    except NotImplementedError:
        return ()


def passes(
    name: str,
    arrays: Iterable[Array],
    options: dict[str, Any],
    dys: tuple[Array, ...],
    formula: Call | None,
    others: Callable[[str], tuple[Call, ...]] = lambda operation: (),
    *,
    note: str = "",
    agree: tuple[Agree, Agree] = (are_close, are_close),
) -> Iterator[Row]:
    """Yield the forward and the backward pass of a function, or a loss with its gradient in one.

    Parameters
    ----------
    name : str
        The function.
    arrays : iterable of ndarray
        What it takes.
    options : dict of str to Any
        What it takes by name.
    dys : tuple of ndarray
        The gradients of its values; none of a loss.
    formula : callable or None
        Returns the value and a function for the gradient, in plain NumPy; of a loss, the gradient.
    others : callable, optional
        Returns further calls in plain NumPy, from the name of an operation.
    note : str, optional
        What the names of the options do not tell.
    agree : tuple of callable, optional
        Compare values, and gradients.
    """
    function, (x, *more) = fa.get(name), arrays
    said = ", ".join([f"{1 + len(more)} arrays"] * bool(more) + [*options] + [note] * bool(note))

    def row(called: str, ours: Call, formula: Call | None, operation: str, agree: Agree) -> Row:
        theirs = (*([formula] if formula else []), *others(operation))
        if not theirs:
            raise NotImplementedError(f"there is no plain NumPy for {name}")
        return Row(f"{called}({said})", x, ours, theirs, agree)

    if not dys:
        both = partial(function.forward_backward, x, *more, **options)
        yield row(f"{name}.forward_backward", both, formula, "forward_backward", agree[0])
        return
    value = formula and (lambda: formula()[0])
    yield row(name, partial(function, x, *more, **options), value, "forward", agree[0])
    called, ours = backward(name, function.vjp(x, *more, **options)[-1], dys)
    gradient = formula and partial(formula()[1], *dys)
    yield row(called, ours, gradient, "backward", agree[1])


def backward(name: str, vjp: Any, dys: tuple[Array, ...]) -> tuple[str, Call]:
    """Return the name of the operation that vjp calls, and the call; or, if there is none, vjp itself."""
    if vjp.operation not in vjp.function.operations or vjp.bias is not None:
        return "vjp of " + name, partial(vjp, *dys)
    operation = getattr(vjp.function, vjp.operation)
    return f"{name}.{vjp.operation}", partial(operation, *dys, *vjp.saved, **vjp.options)


# With options ------------------------------------------------------------------------------------


def fused(deviates: Deviates, shape: tuple[int, int]) -> Iterator[Row]:
    """Yield an activation with a residual connection, and both passes as a net runs them."""
    x, dy, residual = (deviates(*shape) for _ in range(3))
    value, _ = passes(
        "relu", [x], {"residual": residual}, (dy,), lambda: plain.relu_residual(x, residual)
    )
    yield value

    def both(function: Callable[..., Any]) -> tuple[Array, Array]:
        y, vjp = function(x)
        return y, vjp(dy)

    ours, theirs = (partial(both, each) for each in (fa.gelu_tanh.vjp, plain.gelu_tanh))
    yield Row("gelu_tanh.vjp(), and vjp(dy)", x, ours, (theirs,), are_close)


def dropouts(deviates: Deviates, shape: tuple[int, int]) -> Iterator[Row]:
    """Yield dropout alone and after an activation; both sides draw from a generator."""
    x, dy, rng = deviates(*shape), deviates(*shape), np.random.default_rng(0)
    agree = are_dropped(x), are_dropped(dy)
    dropped = partial(plain.PARTS.dropout, x, P)
    yield from passes("dropout", [x], {"p": P, "rng": rng}, (dy,), dropped, agree=agree)
    rectified, mask = np.maximum(x, 0), x > 0
    agree = are_dropped(rectified), are_dropped(dy * mask)
    options = {"dropout": P, "rng": rng}
    yield from passes("relu", [x], options, (dy,), partial(plain.relu_dropout, x, P), agree=agree)


def are_dropped(full: Array) -> Agree:
    """Return a comparison of random results: about the same share of the elements is left, scaled."""

    def agree(*results: Array) -> None:
        for each in results:
            kept = each != 0
            np.testing.assert_allclose(each[kept], full[kept] / (1 - P), rtol=1e-5)
            count = np.count_nonzero(full)
            deviation = np.count_nonzero(kept) - (1 - P) * count
            assert abs(deviation) < 6 * (count * P * (1 - P)) ** 0.5, "another share is dropped"

    return agree


def rows_with_options(deviates: Deviates) -> Iterator[Row]:
    """Yield softmax along the first axis, and with masks: NumPy adds minus infinity."""
    for shape in ((10, 100), (32, 100)):
        x, dy = deviates(*shape), deviates(*shape)
        yield from passes("softmax", [x], {"axis": 0}, (dy,), partial(plain.softmax, x, 0))
    x, dy = deviates(16, 16), deviates(16, 16)
    where = (deviates(16, 16) > 0) | np.eye(16, dtype=bool)
    added = np.where(where, 0, -np.inf).astype(x.dtype)
    masked = partial(plain.softmax, x, mask=added)
    yield from passes("softmax", [x], {"where": where}, (dy,), masked)
    causal = partial(plain.softmax, x, mask=no_future(16, x.dtype))
    yield from passes("softmax", [x], {"causal": True}, (dy,), causal)


def gates_with_options(deviates: Deviates, shape: tuple[int, int]) -> Iterator[Row]:
    """Yield a gated unit of two arrays, of alternating elements, and with the gradient of a transposed array."""
    n, features = shape
    x, second = deviates(*shape), deviates(*shape)
    dy, half = deviates(*shape), deviates(n, features // 2)
    two = partial(plain.swiglu, x, second)
    yield from passes("swiglu", [x, second], {"gate": "first"}, (dy,), two)
    pairs = partial(plain.of_pairs(plain.swiglu), x)
    yield from passes("swiglu", [x], {"interleaved": True}, (half,), pairs)
    halves = partial(plain.FUNCTIONS["swiglu"], x)
    transposed = deviates(features // 2, n).T
    _, gradient = passes("swiglu", [x], {}, (transposed,), halves, note="transposed dy")
    yield gradient


def learned(deviates: Deviates, shape: tuple[int, int]) -> Iterator[Row]:
    """Yield functions with learned parameters, and their gradients."""
    x, dy, weight, bias = deviates(*shape), deviates(*shape), deviates(shape[1]), deviates(shape[1])
    slopes = abs(weight) / 4
    yield from passes("prelu", [x], {"weight": slopes}, (dy,), partial(plain.prelu, x, slopes))
    rms = partial(plain.rms_norm, x, weight)
    yield from passes("rms_norm", [x], {"weight": weight}, (dy,), rms)
    options = {"weight": weight, "bias": bias}
    for name in ("layer_norm", "batch_norm"):
        formula = partial(getattr(plain.PARTS, name), x, weight, bias)
        yield from passes(name, [x], options, (dy,), formula)


def _as_tuple(results: Any) -> tuple[Any, ...]:
    """Return all results of a call in one tuple."""
    return results if isinstance(results, tuple) else (results,)
