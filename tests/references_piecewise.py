"""The formulas of the activations that have pieces or roots, each twice; see `reference.Reference`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from reference import Array, Number, Pair, Reference, context

INFINITY = math.inf

# (value, derivative) at an infinity.
ZERO, LINE = (0.0, 0.0), (INFINITY, 1.0)
ENDS = (ZERO, LINE)
BOTH_LINES = ((-INFINITY, 1.0), LINE)

Pieces = list[tuple[Any, Any, Any]]  # of condition, value and derivative


def both(function: Callable[..., Pieces]) -> dict[str, Callable[..., Pair]]:
    """Make both references of one formula in pieces, the first of which that applies is taken.

    Only for formulas that lose nothing to cancellation, so that they are exact enough on arrays.
    """

    def exact(x: Number, **parameters: float) -> Pair:
        wide = {key: context.mpf(value) for key, value in parameters.items()}
        found = function(x, **wide)
        value, derivative = next(results for applies, *results in found if applies)
        return context.convert(value), context.convert(derivative)

    def on_arrays(x: Array, **parameters: float) -> Pair:
        wide = {key: x.dtype.type(value) for key, value in parameters.items()}
        found = [
            [np.broadcast_to(part, x.shape) for part in piece] for piece in function(x, **wide)
        ]
        conditions, *results = zip(*found, strict=True)
        values, derivatives = (
            np.where(np.isnan(x), x, np.select(conditions, each)).astype(x.dtype)
            for each in results
        )
        return values, derivatives

    return {"exact": exact, "on_arrays": on_arrays}


def _bent_line(x: Any, slope: Any) -> Pieces:
    return [(x > 0, x, 1), (True, slope * x if slope else 0, slope)]


def _ends_of_bent_line(slope: float) -> tuple[Pair, Pair]:
    return (-INFINITY * slope if slope else 0.0, slope), LINE


def _exact_elu(x: Number, alpha: float) -> Pair:
    if x > 0:
        return x, context.mpf(1)
    return alpha * context.expm1(x), alpha * context.exp(x)


def _elu(x: Array, alpha: float) -> Pair:
    one = np.ones_like(x)
    return np.where(x > 0, x, alpha * np.expm1(x)), np.where(x > 0, one, alpha * np.exp(x))


def _clipped(x: Any, low: Any, high: Any) -> Pieces:
    return [(x <= low, low, 0), (x >= high, high, 0), (True, x, 1)]


def _clipped_linear(x: Any, slope: Any, offset: Any, min_val: Any, max_val: Any) -> Pieces:
    line = slope * x + offset
    return [(line <= min_val, min_val, 0), (line >= max_val, max_val, 0), (True, line, slope)]


def _fraction(number: Any) -> tuple[Any, Any]:
    """Return what a parameter stands for: 1 / 6 and 0.2 are no floating-point numbers."""
    found = Fraction(float(number)).limit_denominator(60)
    return type(number)(found.numerator), type(number)(found.denominator)


def _gate(x: Any, alpha: Any, beta: Any) -> tuple[Any, Any, Any]:
    """Return ``alpha x + beta`` and ``2 alpha x + beta``, rounded once, and alpha."""
    (a, b), (c, d) = _fraction(alpha), _fraction(beta)
    return (a * d * x + b * c) / (b * d), (2 * a * d * x + b * c) / (b * d), a / b


def _hardsigmoid(x: Any, alpha: Any, beta: Any) -> Pieces:
    line, _, slope = _gate(x, alpha, beta)
    return [(line <= 0, 0, 0), (line >= 1, 1, 0), (True, line, slope)]


def _hardswish(x: Any, alpha: Any, beta: Any) -> Pieces:
    line, derivative, _ = _gate(x, alpha, beta)
    return [(line <= 0, 0, 0), (line >= 1, x, 1), (True, x * line, derivative)]


def _hard_mish(x: Any) -> Pieces:
    return [(x <= -2, 0, 0), (x >= 0, x, 1), (True, x * (x + 2) / 2, x + 1)]


def _sparse_sigmoid(x: Any) -> Pieces:
    at_kinks = [(x == -1, 0, 0.25), (x == 1, 1, 0.25)]
    return [*at_kinks, (x < -1, 0, 0), (x > 1, 1, 0), (True, (x + 1) / 2, 0.5)]


def _smelu(x: Any, beta: Any) -> Pieces:
    distance = x + beta
    bend = (True, distance**2 / (4 * beta), distance / (2 * beta))
    return [(x <= -beta, 0, 0), (x >= beta, x, 1), bend]


def _shrink(x: Any, lambd: Any, bias: Any) -> Pieces:
    return [(x < -lambd, x + bias, 1), (x > lambd, x - bias, 1), (True, 0, 0)]


def _root(x: Any) -> Any:
    return np.sqrt(x) if isinstance(x, np.ndarray) else context.sqrt(x)


def _softsign(x: Any) -> Pieces:
    ends = [(x == -INFINITY, -1, 0), (x == INFINITY, 1, 0)]
    return [*ends, (True, x / (1 + abs(x)), 1 / (1 + abs(x)) ** 2)]


def _squareplus(x: Any, b: Any) -> Pieces:
    root = _root(x * x + b)
    right = (root + abs(x)) / 2
    left = b / 4 / right
    ends = [(x == -INFINITY, 0, 0), (x == INFINITY, x, 1)]
    return [*ends, (x < 0, left, left / root), (True, right, right / root)]


def _dish(x: Any) -> Pieces:
    root = _root(x * x + 1)
    ends = [(x == -INFINITY, 0, 0), (x == INFINITY, x, 1)]
    half_gates = (x < 0, 1 / (root + abs(x)) / root), (True, (root + x) / root)
    return ends + [
        (where, x * gate / 2, gate / 2 + x / (2 * root**3)) for where, gate in half_gates
    ]


def _bent_identity(x: Any) -> Pieces:
    root = _root(x * x + 1)
    ends = [(x == -INFINITY, x, 0.5), (x == INFINITY, x, 1.5)]
    return [*ends, (True, x + x * x / (2 * (root + 1)), 1 + x / (2 * root))]


def _kinks_of_gate(alpha: float, beta: float) -> tuple[float, float]:
    return -beta / alpha, (1 - beta) / alpha


GATES = ({}, {"alpha": 0.2}, {"alpha": 0.25, "beta": 0.125})

REFERENCES: Mapping[str, Reference] = {
    "identity": Reference(
        **both(lambda x: [(True, x, 1)]),
        limits=lambda: BOTH_LINES,
        pytorch=lambda torch, x: torch.nn.Identity()(x),
    ),
    "relu": Reference(
        **both(lambda x: _bent_line(x, 0)),
        limits=lambda: ENDS,
        kinks=lambda: (0.0,),
    ),
    "squared_relu": Reference(
        **both(lambda x: [(x <= 0, 0, 0), (True, x * x, 2 * x)]),
        limits=lambda: (ZERO, (INFINITY, INFINITY)),
    ),
    "threshold": Reference(
        **both(lambda x, threshold, value: [(x <= threshold, value, 0), (True, x, 1)]),
        limits=lambda threshold, value: ((value, 0.0), LINE),
        settings=({"threshold": 0.5, "value": -1.0}, {"threshold": -20.0, "value": 0.0}),
        kinks=lambda threshold, value: (threshold,),
    ),
    "thresholded_relu": Reference(
        **both(lambda x, alpha: [(x <= alpha, 0, 0), (True, x, 1)]),
        limits=lambda alpha: ENDS,
        defaults={"alpha": 1.0},
        settings=({}, {"alpha": 0.25}, {"alpha": -1.0}),
        kinks=lambda alpha: (alpha,),
    ),
    "leaky_relu": Reference(
        **both(lambda x, negative_slope: _bent_line(x, negative_slope)),
        limits=lambda negative_slope: _ends_of_bent_line(negative_slope),
        defaults={"negative_slope": 0.01},
        settings=({}, *({"negative_slope": slope} for slope in (0.2, -0.5, 0.0, 1.7))),
        kinks=lambda negative_slope: (0.0,),
    ),
    "prelu": Reference(
        **both(lambda x, weight: _bent_line(x, weight)),
        limits=lambda weight: _ends_of_bent_line(weight),
        settings=tuple({"weight": weight} for weight in (0.25, -0.3, 0.0, 1.7)),
        kinks=lambda weight: (0.0,),
    ),
    "rrelu": Reference(
        **both(lambda x, lower, upper: _bent_line(x, (lower + upper) / 2)),
        limits=lambda lower, upper: _ends_of_bent_line((lower + upper) / 2),
        defaults={"lower": 1 / 8, "upper": 1 / 3},
        settings=({}, {"lower": 0.25, "upper": 0.5}),
        kinks=lambda lower, upper: (0.0,),
    ),
    "elu": Reference(
        exact=_exact_elu,
        on_arrays=_elu,
        limits=lambda alpha: ((-alpha, 0.0), LINE),
        defaults={"alpha": 1.0},
        settings=({}, *({"alpha": alpha} for alpha in (0.5, 2.0, 1.7, -1.0, 0.0))),
        is_scaled=True,
        rises=True,
        kinks=lambda alpha: (0.0,),
    ),
    "relu6": Reference(
        **both(lambda x: _clipped(x, 0, 6)),
        limits=lambda: (ZERO, (6.0, 0.0)),
        kinks=lambda: (0.0, 6.0),
    ),
    "clipped_relu": Reference(
        **both(lambda x, z: _clipped(x, 0, z)),
        limits=lambda z: (ZERO, (z, 0.0)),
        defaults={"z": 20.0},
        settings=({}, {"z": 0.5}),
        kinks=lambda z: (0.0, z),
    ),
    "clipped_linear": Reference(
        **both(_clipped_linear),
        limits=lambda slope, offset, min_val, max_val: ((min_val, 0.0), (max_val, 0.0)),
        defaults={"slope": 1.0, "offset": 0.0, "min_val": 0.0, "max_val": 1.0},
        settings=({}, {"slope": 2.0, "offset": -0.5, "min_val": -1.0, "max_val": 3.0}),
        kinks=lambda slope, offset, min_val, max_val: (
            (min_val - offset) / slope,
            (max_val - offset) / slope,
        ),
    ),
    "hardtanh": Reference(
        **both(lambda x, min_val, max_val: _clipped(x, min_val, max_val)),
        limits=lambda min_val, max_val: ((min_val, 0.0), (max_val, 0.0)),
        defaults={"min_val": -1.0, "max_val": 1.0},
        settings=({}, {"min_val": -0.5, "max_val": 2.0}),
        kinks=lambda min_val, max_val: (min_val, max_val),
    ),
    "hardsigmoid": Reference(
        **both(_hardsigmoid),
        limits=lambda alpha, beta: (ZERO, (1.0, 0.0)),
        defaults={"alpha": 1 / 6, "beta": 0.5},
        settings=GATES,
        kinks=_kinks_of_gate,
    ),
    "hardswish": Reference(
        **both(_hardswish),
        limits=lambda alpha, beta: ENDS,
        defaults={"alpha": 1 / 6, "beta": 0.5},
        settings=GATES,
        kinks=_kinks_of_gate,
    ),
    "hard_mish": Reference(**both(_hard_mish), limits=lambda: ENDS, kinks=lambda: (-2.0,)),
    "sparse_sigmoid": Reference(
        **both(_sparse_sigmoid), limits=lambda: (ZERO, (1.0, 0.0)), kinks=lambda: (-1.0, 1.0)
    ),
    "sparse_plus": Reference(**both(lambda x: _smelu(x, 1)), limits=lambda: ENDS),
    "smelu": Reference(
        **both(_smelu),
        limits=lambda beta: ENDS,
        defaults={"beta": 1.0},
        settings=({}, {"beta": 0.5}, {"beta": 3.0}),
        is_scaled=True,
    ),
    "hardshrink": Reference(
        **both(lambda x, lambd: _shrink(x, lambd, 0)),
        limits=lambda lambd: BOTH_LINES,
        defaults={"lambd": 0.5},
        settings=({}, {"lambd": 1.0}),
        kinks=lambda lambd: (-lambd, lambd),
    ),
    "softshrink": Reference(
        **both(lambda x, lambd: _shrink(x, lambd, lambd)),
        limits=lambda lambd: BOTH_LINES,
        defaults={"lambd": 0.5},
        settings=({}, {"lambd": 1.25}, {"lambd": 0.0}),
        kinks=lambda lambd: (-lambd, lambd),
    ),
    "shrink": Reference(
        **both(_shrink),
        limits=lambda lambd, bias: BOTH_LINES,
        defaults={"lambd": 0.5, "bias": 0.0},
        settings=({}, {"lambd": 1.5, "bias": 0.5}),
        kinks=lambda lambd, bias: (-lambd, lambd),
    ),
    "softsign": Reference(**both(_softsign), limits=lambda: ((-1.0, 0.0), (1.0, 0.0)), rises=True),
    "squareplus": Reference(
        **both(_squareplus),
        limits=lambda b: ENDS,
        defaults={"b": 4.0},
        settings=({}, {"b": 1.0}, {"b": 3.0}),
        rises=True,
    ),
    "dish": Reference(
        **both(_dish),
        limits=lambda: ENDS,
        near_root=lambda x: abs(x + math.sqrt((math.sqrt(5) - 1) / 2)) <= 0.4,
    ),
    "bent_identity": Reference(
        **both(_bent_identity),
        limits=lambda: ((-INFINITY, 0.5), (INFINITY, 1.5)),
        rises=True,
    ),
}
