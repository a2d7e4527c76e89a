"""Whether the kernels of this installation compute what they should: the code behind ``fastact verify``.

An activation is held against its textbook formula, evaluated in 50 digits, where its errors are stated in units in the
last place. Other functions are held against their NumPy baseline, evaluated in a wider type: there the unit is that of
the largest result or gradient, since sums over a row cancel. What draws random numbers has no reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastact as fa
from fastact.bench.contenders import IMPLEMENTATIONS
from fastact.bench.workloads import Workload
from fastact.catalogue.definition import Definition

Array = NDArray[Any]
#: The types of what is compared: half types are these results, rounded.
DTYPES = ("float32", "float64")

#: The bound for functions that state none, and where the reference is no wider.
TOLERANCE = 100.0
_SHAPE = (16, 130)  # rows longer than any register, with a tail
_SCALES = (1.0, 4.0, 30.0)
_WIDER: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float64),
    "float64": np.dtype(np.longdouble),
}


@dataclass(frozen=True)
class Error:
    """The largest error of one result.

    Attributes
    ----------
    what : str
        ``"value"`` or ``"derivative"``; beside the baseline any gradient counts as the latter.
    found, bound : float
        What was found and what is allowed, in units in the last place.
    where : str
        The input and the parameters at which it was found.
    """

    what: str
    found: float
    bound: float
    where: str = ""

    @property
    def is_exceeded(self) -> bool:
        """Whether the error is larger than allowed."""
        return not self.found <= self.bound


@dataclass(frozen=True)
class Verdict:
    """What came of one function in one type.

    Attributes
    ----------
    name, dtype : str
        The function and the type.
    reference : str
        What it was held against; empty if nothing can be.
    points : int
        The number of inputs of an activation, or of results compared with NumPy's.
    errors : tuple of Error
        That of the value and that of the derivative.
    why_not : str
        Why it was not compared.
    """

    name: str
    dtype: str
    reference: str = ""
    points: int = 0
    errors: tuple[Error, ...] = ()
    why_not: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether an error is larger than allowed."""
        return any(error.is_exceeded for error in self.errors)


def verify(name: str, dtype: str, count: int = 500) -> Verdict:
    """Return what comes of a function in a type.

    Parameters
    ----------
    name : str
        The name of a function.
    dtype : str
        One of `DTYPES`.
    count : int
        At how many points an activation is evaluated, for each of its sets of parameters; beside the special ones.
    """
    if fa.get(name)._definition.exact is None:
        return beside_baseline(name, dtype)
    return _beside_formula(name, dtype, count)


def stated_errors(
    definition: Definition, parameters: Mapping[str, float], dtype: Any
) -> tuple[float, float]:
    """Return the stated errors of value and derivative, in units in the last place.

    In float64 they may be larger by one unit, unless the result is correctly rounded. Where nothing is stated,
    it is `TOLERANCE`.
    """
    if definition.errors is None:
        return TOLERANCE, TOLERANCE
    stated = list(definition.errors)
    if parameters and definition.is_scaled:
        stated = [2 * error + 0.5 for error in stated]
    if dtype == np.float64:
        stated = [error + (error > 0.5) for error in stated]
    return stated[0], stated[1]


def numbers(dtype: str, count: int, near: tuple[float, ...] = ()) -> Array:
    """Return numbers of all magnitudes and signs, ordinary and special ones, and neighbours of some places."""
    kind, random = np.dtype(dtype), np.random.default_rng(15)
    limits = np.finfo(kind)
    word = np.dtype(f"u{kind.itemsize}")
    patterns = random.integers(0, np.iinfo(word).max, count // 2, word, endpoint=True).view(kind)
    small = limits.smallest_subnormal, limits.tiny / kind.type(3), limits.tiny, limits.eps
    special = np.array([0, *small, 1, 20, 90, limits.max, math.inf], kind)
    places = np.array([place for each in near for place in (each, -each)], kind)
    with np.errstate(all="ignore"):
        return np.concatenate(
            [
                *(special, -special, [kind.type(math.nan)], patterns),
                (random.standard_normal(count - count // 2) * 4).astype(kind),
                *(np.nextafter(places, kind.type(end)) for end in (-math.inf, math.inf)),
                places,
            ]
        )


# Beside the formula ------------------------------------------------------------------------------


def _beside_formula(name: str, dtype: str, count: int) -> Verdict:
    """Compare an activation with its formula in 50 digits, for all sets of parameters to test with."""
    from fastact.bench.exact import Formula

    formula, points = Formula(fa.get(name)._definition), 0
    worst: dict[str, Error] = {}
    for given in formula.settings:
        places = formula.kinks(**{**formula.defaults, **given}), formula.definition.roots
        x = numbers(dtype, count, sum(places, ()))
        points += x.size
        for error in _errors_beside_formula(formula, x, given):
            if error.what not in worst or _excess(error) > _excess(worst[error.what]):
                worst[error.what] = error
    return Verdict(name, dtype, "their formulas in 50 digits", points, tuple(worst.values()))


def _excess(error: Error) -> tuple[float, float]:
    return error.found - error.bound, error.found


def _errors_beside_formula(formula: Any, x: Array, given: Mapping[str, float]) -> Iterator[Error]:
    from fastact.bench.exact import errors_in_ulps

    definition = formula.definition
    # As the kernel gets them.
    parameters = {k: float(x.dtype.type(v)) for k, v in {**formula.defaults, **given}.items()}
    results = fa.get(definition.name).value_and_derivative(x, **parameters)
    exact = zip(*(formula.at(float(number), **parameters) for number in x), strict=True)
    bounds = stated_errors(definition, given, x.dtype)
    for what, got, right, bound in zip(
        ("value", "derivative"), results, exact, bounds, strict=True
    ):
        errors = errors_in_ulps(got, right)
        if what == "derivative":
            errors = _about_roots(formula, x, got, right, errors, bound, parameters)
        at = int(np.nanargmax(errors))
        named = [f"x={x[at]!s}", *(f"{key}={value:.5g}" for key, value in given.items())]
        yield Error(what, float(errors[at]), bound, ", ".join(named))


def _about_roots(
    formula: Any,
    x: Array,
    got: Array,
    right: tuple[Any, ...],
    errors: Array,
    bound: float,
    parameters: Mapping[str, float],
) -> Array:
    """Let the stated absolute error about a root of the derivative, 2**-23 or 2**-52, count as the bound."""
    if not formula.definition.roots and formula.definition.near_root is None:
        return errors
    unit = float(np.finfo(x.dtype).eps)
    found = errors.copy()
    for i in np.flatnonzero(np.isfinite(x) & (errors > bound)):
        if formula.is_near_root(float(x[i]), **parameters):
            absolute = abs(float(got[i]) - right[i])
            found[i] = min(errors[i], bound * float(absolute) / unit)
    return found


# Beside the baseline -----------------------------------------------------------------------------


def beside_baseline(name: str, dtype: str) -> Verdict:
    """Compare a function's values and gradients with its NumPy baseline in a wider type."""
    function = fa.get(name)
    definition = function._definition
    if getattr(definition, "is_random", function.kind == "dropout"):
        return Verdict(name, dtype, why_not="as the results are random")
    is_pointwise = function.kind == "activation"
    works = [_of_all_magnitudes(name, dtype)] if is_pointwise else list(_of_rows(name, dtype))
    try:
        compared = [_compare(work, dtype) for work in works]
    except NotImplementedError as error:
        return Verdict(name, dtype, why_not=str(error))
    value, derivative = stated_errors(definition, {}, np.dtype(dtype))
    derivative += 0.5 if definition.errors else 0  # a product with dy
    wide = compared[0].wide
    if np.finfo(wide).nmant <= np.finfo(dtype).nmant:  # the reference has errors of its own
        value = derivative = TOLERANCE
    errors = (
        Error("value", max(each.value for each in compared), value),
        Error("derivative", max(each.gradient for each in compared), derivative),
    )
    points = sum(each.points for each in compared)
    return Verdict(name, dtype, f"NumPy in {wide.type.__name__}", points, errors)


def _of_all_magnitudes(name: str, dtype: str) -> Workload:
    """Return the arrays of an activation, and its parameters as the kernel gets them."""
    work = Workload.of(name, (math.prod(_SHAPE),), dtype)
    given = {**fa.get(name)._definition.parameters, **work.parameters}
    exact = {k: v if isinstance(v, int) else float(work.x.dtype.type(v)) for k, v in given.items()}
    x = np.resize(numbers(dtype, work.x.size // 2), work.x.shape)
    return replace(work, inputs=(x,), parameters=exact)


def _of_rows(name: str, dtype: str) -> Iterator[Workload]:
    for scale in _SCALES:
        yield Workload.of(name, _SHAPE, dtype, scale=scale)


class _Compared(NamedTuple):
    """The largest errors of a call, in units in the last place, and in which type the reference is."""

    value: float
    gradient: float
    points: int
    wide: np.dtype[Any]


def _compare(work: Workload, dtype: str) -> _Compared:
    got = _results(work, "fastact")
    right, wide = _wide_results(work, dtype)
    values = len(work.dys) or 1  # a loss
    # Not the gradients of an activation's parameters: a sum over all magnitudes overflows.
    pairs = list(zip(got, right, strict=True))[: 2 if work.is_pointwise else None]
    least = 1.0 if work.is_pointwise else 0.0
    largest_dy = max((float(np.abs(dy).max()) for dy in work.dys), default=0.0)
    return _Compared(
        max(_largest_error(*pair, least, work.is_pointwise) for pair in pairs[:values]),
        max(
            _largest_error(*pair, max(least, largest_dy), work.is_pointwise)
            for pair in pairs[values:]
        ),
        sum(np.size(each) for each, _ in pairs),
        wide,
    )


def _results(work: Workload, implementation: str) -> tuple[Array, ...]:
    with np.errstate(all="ignore"):
        found = IMPLEMENTATIONS[implementation].make(work, "forward_backward")()
    return tuple(np.asarray(each) for each in (found if isinstance(found, tuple) else (found,)))


def _wide_results(work: Workload, dtype: str) -> tuple[tuple[Array, ...], np.dtype[Any]]:
    """Return the baseline's results in the wider type, or in float64 where SciPy has nothing wider."""
    for wide in (_WIDER[dtype], np.dtype(np.float64)):
        try:
            return _results(_widened(work, wide), "numpy"), wide
        except TypeError:
            if wide == np.float64:
                raise
    raise AssertionError


def _widened(work: Workload, wide: np.dtype[Any]) -> Workload:
    def widen(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        with np.errstate(invalid="ignore"):  # signalling NaNs
            return tuple(each.astype(wide) if each.dtype.kind == "f" else each for each in arrays)

    return replace(
        work, inputs=widen(work.inputs), constants=widen(work.constants), dys=widen(work.dys)
    )


def _largest_error(got: Array, right: Array, least: float, elementwise: bool) -> float:
    """Return the largest error in units in the last place of the exact result, or of the largest one.

    The unit is at least that of `least`. Equal infinities and NaNs are right.
    """
    with np.errstate(all="ignore"):
        kind = got.dtype.type
        size = np.abs(right) if elementwise else np.abs(right).max(initial=0)
        size = np.minimum(np.maximum(size, least), np.finfo(kind).max).astype(kind)
        errors = np.abs(got.astype(right.dtype) - right) / np.spacing(size)
        same = (got == right.astype(kind)) & ~np.isfinite(right) | np.isnan(got) & np.isnan(right)
        return float(np.max(np.where(same, 0, np.nan_to_num(errors, nan=math.inf)), initial=0))
