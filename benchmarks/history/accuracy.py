"""How large are the errors in float32? Speed shall not be gained at their cost.

The reference is the NumPy baseline in float64, whose own error is a billion times smaller.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import pointwise
from .pairs import declare, functions_of, in_fresh_processes, reported

#: Derivatives that vanish somewhere have no relative error there.
WITH_ROOTS = ("gelu_tanh", "silu", "mish")
ELEMENTS = 400_000
#: Accurate formulas where the baseline's derivative loses digits even in float64.
DERIVATIVES = {"tanh": lambda x: 1 / np.cosh(x) ** 2}


def setup_cache() -> dict[tuple[str, str], float]:
    """Compute all errors."""
    found = in_fresh_processes(all_errors, count=1)
    return found[0] if found else {}


def all_errors() -> dict[tuple[str, str], float]:
    """Return the largest error of value and derivative of each function."""
    found = {}
    for name in pointwise.FUNCTIONS:
        with reported(name):
            found |= {(name, result): error for result, error in largest_errors(name).items()}
    return found


def largest_errors(name: str, elements: int = ELEMENTS) -> dict[str, float]:
    """Return the largest errors of value and derivative, in units in the last place."""
    x = inputs(elements)
    parameters = pointwise.PARAMETERS.get(name, ())
    ours, theirs = functions_of(name)
    dy = np.ones(len(x) // 2 if name == "maxout" else len(x), np.float32)
    with np.errstate(all="ignore"):  # the weights' gradients overflow in float32
        y, dx, *_ = ours(x, dy, *parameters)
        value, derivative, *_ = theirs(x.astype(np.float64), dy.astype(np.float64), *parameters)
        if name in DERIVATIVES:
            derivative = DERIVATIVES[name](x.astype(np.float64))
    return {
        "value": round(float(errors(y, value).max()), 3),
        "derivative": round(float(errors(dx, derivative).max()), 3),
    }


def inputs(elements: int) -> NDArray[np.float32]:
    """Return numbers of both signs, half of them near 0, half of any magnitude."""
    random = np.random.default_rng(21)
    near = random.standard_normal(elements // 2) * 4
    signs = random.choice((-1, 1), elements // 2)
    return np.concatenate([near, signs * 10 ** random.uniform(-44, 38, elements // 2)]).astype(
        np.float32
    )


def errors(result: NDArray[np.float32], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the errors in units in the last place of the reference; infinity for a lost NaN."""
    below_overflow = np.nextafter(np.finfo(np.float32).max, np.float32(0))
    magnitude = np.minimum(np.abs(reference), below_overflow).astype(np.float32)
    with np.errstate(invalid="ignore"):  # the difference of two infinities
        difference = np.abs(result.astype(np.float64) - reference) / np.spacing(magnitude)
    difference[result == reference] = 0
    return np.nan_to_num(difference, nan=np.inf)


def track_value(found: dict[Any, float], function: str) -> float:
    """Return the largest error of many values."""
    return found.get((function, "value"), float("nan"))


def track_derivative(found: dict[Any, float], function: str) -> float:
    """Return the largest error of many derivatives."""
    return found.get((function, "derivative"), float("nan"))


declare(track_value, "largest error of values", "ulp", function=pointwise.FUNCTIONS)
declare(
    track_derivative,
    "largest error of derivatives",
    "ulp",
    function=[name for name in pointwise.FUNCTIONS if name not in WITH_ROOTS],
)
