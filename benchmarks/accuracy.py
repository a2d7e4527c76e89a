"""The largest errors in float32, tracked so that speed is not gained at the cost of accuracy."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastact as fa
from fastact import baseline
from fastact.bench.contenders import ACTIVATIONS

#: Accurate formulas where the baseline's derivative loses digits even in float64.
DERIVATIVES = {"tanh": lambda x: 1 / np.cosh(x) ** 2}


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


@lru_cache(maxsize=1)
def largest_errors(activation: str, elements: int) -> dict[str, float]:
    """Return the largest errors of value and derivative, against NumPy in float64."""
    x = inputs(elements)
    ours: Any = fa.get(activation)
    numpy = baseline.get(activation)
    # Rounded, as the float32 computation gets them.
    parameters: dict[str, Any] = {
        name: value if isinstance(value, int) else float(np.float32(value))
        for name, value in {**ours.parameters, **ours._definition.required_parameters}.items()
    }
    dy = np.ones(len(x) // parameters.get("pieces", 1), dtype=np.float32)
    wide, wide_dy = x.astype(np.float64), dy.astype(np.float64)
    with np.errstate(all="ignore"):  # the weights' gradients overflow in float32
        y, dx, *_ = ours.forward_backward(x, dy, **parameters)
        value, derivative, *_ = numpy.forward_backward(wide, wide_dy, **parameters)
        if activation in DERIVATIVES:
            derivative = DERIVATIVES[activation](wide)
        return {
            "value": float(errors(y, value).max()),
            "derivative": float(errors(dx, derivative).max()),
        }


class Accuracy:
    """The largest error over many inputs."""

    version = "1"
    timeout = 180
    unit = "ulp"
    param_names = ("activation", "result")
    params = (ACTIVATIONS, ("value", "derivative"))
    elements = 2_000_000

    def track_largest_error(self, activation: str, result: str) -> float:
        return round(largest_errors(activation, self.elements)[result], 3)
