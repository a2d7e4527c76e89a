"""Generate ``fastact/vecmath/coefficients.py``.

Every polynomial is a minimax fit, found by a Remez exchange in 60-digit
arithmetic, whose coefficients are then rounded to the number type that will
use them. To add a polynomial, add one entry to ``POLYNOMIALS``.

Run ``python tools/generate_coefficients.py`` to rewrite the file, and
``python tools/generate_coefficients.py --check`` to find out whether the file
is what this script would write.
"""

import argparse
import difflib
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath  # type: ignore[import-untyped, unused-ignore]

OUTPUT = Path(__file__).resolve().parents[1] / "fastact" / "vecmath" / "coefficients.py"

SIGNIFICAND_BITS = {"float32": 24, "float64": 53}

# A context of our own: importing this module leaves mpmath's global precision alone.
context = mpmath.mp.clone()
context.dps = 60

Number = Any  # mpmath's numbers are not annotated.
Function = Callable[[Number], Number]


# --- What to generate ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Polynomial:
    """One polynomial Q(x) to fit to ``target(x)`` on ``interval``.

    The fit minimises the largest ``weight(x) * |Q(x) - target(x)|``, so ``weight``
    is what turns an error of Q into a relative error of the final result. The
    target is the function that Q itself replaces, with the exact leading terms
    taken off and divided out: all powers 1, x, ..., x^degree are then free, which
    is what the Remez exchange needs to be certain of the optimum. Pinning a
    leading term inside the fit instead silently loses bits.
    """

    name: str
    comment: str
    target: Function
    weight: Function
    interval: tuple[Number, Number]
    degree: dict[str, int]


def exp_tail(r: Number) -> Number:
    """Return (exp(r) - 1 - r) / r^2."""
    if r == 0:
        return context.mpf(1) / 2
    with context.extradps(context.dps):  # The subtraction cancels near 0.
        return (context.exp(r) - 1 - r) / r**2


def atanh_tail(z: Number) -> Number:
    """Return (2 atanh(s) - 2 s) / (s z) with s = sqrt(z)."""
    if z == 0:
        return context.mpf(2) / 3
    with context.extradps(context.dps):  # The subtraction cancels near 0.
        s = context.sqrt(z)
        return 2 * (context.atanh(s) - s) / (s * z)


def atanh_weight(z: Number) -> Number:
    """Return s z / (2 atanh(s)) with s = sqrt(z)."""
    if z == 0:
        return context.mpf(0)
    s = context.sqrt(z)
    return s * z / (2 * context.atanh(s))


# Rounding x / ln2 to an integer leaves |r| <= ln2/2; the margin is for that rounding's own error.
REDUCED = context.ln2 / 2 * (1 + context.mpf(2) ** -10)

# s = f / (2 + f) at either end of sqrt(1/2) <= 1 + f <= sqrt(2).
LARGEST_S = (context.sqrt(2) - 1) / (context.sqrt(2) + 1)

POLYNOMIALS = (
    Polynomial(
        name="EXP",
        comment="exp(r) ~ 1 + r + r^2 Q(r) for |r| <= ln2/2 (1 + 2^-10)",
        target=exp_tail,
        weight=lambda r: r**2 / context.exp(r),
        interval=(-REDUCED, REDUCED),
        degree={"float32": 4, "float64": 9},
    ),
    Polynomial(
        name="EXPM1",
        comment="expm1(r) ~ r + r^2 Q(r) for |r| <= ln2/2 (1 + 2^-10)",
        target=exp_tail,
        weight=lambda r: abs(r**2 / context.expm1(r)) if r else context.mpf(0),
        interval=(-REDUCED, REDUCED),
        degree={"float32": 5, "float64": 10},
    ),
    Polynomial(
        name="LOG",
        comment=(
            "log(1 + f) ~ 2 s + s z Q(z), s = f / (2 + f), z = s^2,"
            " for sqrt(1/2) <= 1 + f <= sqrt(2)"
        ),
        target=atanh_tail,
        weight=atanh_weight,
        interval=(context.mpf(0), LARGEST_S**2),
        degree={"float32": 3, "float64": 6},
    ),
)

# LN2_SHORT_HIGH keeps this many significant bits. The rest of the significand, 12 bits in float32
# and 21 in float64, is zeros: the product with an exponent, which has at most 8 resp. 11 bits, is
# exact without a fused multiply-add.
SHORT_BITS = {"float32": 12, "float64": 32}


@dataclass(frozen=True)
class Constant:
    """One number for each number type."""

    name: str
    comment: str
    value: dict[str, float]


def constants() -> list[Constant]:
    """Return log2(e) and the two splits of ln2 into a high and a low part."""
    ln2 = +context.ln2
    high = {dtype: rounded(ln2, bits) for dtype, bits in SIGNIFICAND_BITS.items()}
    short_high = {dtype: rounded(ln2, bits) for dtype, bits in SHORT_BITS.items()}

    def in_dtype(values: dict[str, Number]) -> dict[str, float]:
        return {dtype: float(rounded(x, SIGNIFICAND_BITS[dtype])) for dtype, x in values.items()}

    def remainder(part: dict[str, Number]) -> dict[str, Number]:
        return {dtype: ln2 - x for dtype, x in part.items()}

    return [
        Constant("LOG2_E", "1 / ln2.", in_dtype(dict.fromkeys(SIGNIFICAND_BITS, 1 / ln2))),
        Constant("LN2_HIGH", "ln2, for a reduction with fma.", in_dtype(high)),
        Constant("LN2_LOW", "ln2 - LN2_HIGH.", in_dtype(remainder(high))),
        Constant(
            "LN2_SHORT_HIGH",
            "ln2 to "
            + " and ".join(f"{bits} bits in {dtype}" for dtype, bits in SHORT_BITS.items())
            + ", so that its product with an exponent is exact.",
            in_dtype(short_high),
        ),
        Constant("LN2_SHORT_LOW", "ln2 - LN2_SHORT_HIGH.", in_dtype(remainder(short_high))),
    ]


# --- The fit ------------------------------------------------------------------------------------

# Points of the grid on which the exchange works, and of the other one on which its result is
# measured. Between neighbours of the first grid an error peak rises by some 0.1 % at most.
FIT_POINTS = 400
MEASURE_POINTS = 4000

# The exchange stops when the largest error exceeds the levelled one by no more than this factor.
LEVEL_TOLERANCE = 1e-6
MAXIMUM_EXCHANGES = 100


def rounded(value: Number, bits: int) -> Number:
    """Return the nearest number with ``bits`` significant bits, rounded once.

    Going through float() first would round to float32 twice. The exponent is not
    limited, which is right as long as the values are no subnormal numbers.
    """
    with context.workprec(bits):
        return +value


def evaluate(coefficients: Sequence[Number], x: Number) -> Number:
    """Return the polynomial at x; its coefficients come lowest order first."""
    return context.polyval(list(reversed(coefficients)), x)


def chebyshev_points(interval: tuple[Number, Number], count: int) -> list[Number]:
    """Return the extrema of a Chebyshev polynomial: dense at the ends, which belong to them."""
    low, high = interval
    middle, radius = (low + high) / 2, (high - low) / 2
    return [middle - radius * context.cospi(context.mpf(i) / (count - 1)) for i in range(count)]


def levelled(
    points: Sequence[Number], targets: Sequence[Number], weights: Sequence[Number]
) -> tuple[list[Number], Number]:
    """Return the polynomial whose weighted error is +level, -level, ... at the points, and level.

    It has one coefficient fewer than there are points.
    """
    count = len(points)
    matrix = context.matrix(count, count)
    right_side = context.matrix(count, 1)
    for row, (x, target, weight) in enumerate(zip(points, targets, weights, strict=True)):
        for power in range(count - 1):
            matrix[row, power] = weight * x**power
        matrix[row, count - 1] = (-1) ** row
        right_side[row] = weight * target
    *coefficients, level = context.lu_solve(matrix, right_side)
    return coefficients, abs(level)


def alternating_peaks(errors: Sequence[Number], level: Number, count: int) -> list[int]:
    """Return the indices of ``count`` errors of alternating sign, none of them below level.

    The largest error is one of them. That makes the level grow from each exchange
    to the next, which is why the exchange converges.
    """
    peaks: list[int] = []
    threshold = level * (1 - context.mpf(LEVEL_TOLERANCE) ** 2)
    for index, error in enumerate(errors):
        if abs(error) < threshold:
            continue
        if not peaks or (errors[peaks[-1]] > 0) != (error > 0):
            peaks.append(index)
        elif abs(error) > abs(errors[peaks[-1]]):
            peaks[-1] = index
    if len(peaks) < count:
        raise ArithmeticError(f"{len(peaks)} alternating errors, {count} are needed")
    while len(peaks) > count:
        peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
    return peaks


def minimax(
    points: Sequence[Number], targets: Sequence[Number], weights: Sequence[Number], degree: int
) -> list[Number]:
    """Return the polynomial with the smallest weighted error on the points, by Remez exchange."""
    count = degree + 2
    # Indices spread evenly over a Chebyshev grid are close to the extrema of a Chebyshev
    # polynomial, the classical start.
    reference = [i * (len(points) - 1) // (count - 1) for i in range(count)]
    for _ in range(MAXIMUM_EXCHANGES):
        coefficients, level = levelled(
            *([values[i] for i in reference] for values in (points, targets, weights))
        )
        errors = [
            weight * (target - evaluate(coefficients, x))
            for x, target, weight in zip(points, targets, weights, strict=True)
        ]
        if max(map(abs, errors)) <= level * (1 + LEVEL_TOLERANCE):
            return coefficients
        reference = alternating_peaks(errors, level, count)
    raise ArithmeticError(f"no convergence after {MAXIMUM_EXCHANGES} exchanges")


def fit(polynomial: Polynomial, dtype: str) -> list[Number]:
    """Return minimax coefficients that are exact in the number type.

    The lowest coefficient matters most: it is rounded first, and the others are
    fitted again to make up for its rounding, and so on. With c pinned, what is
    left to fit is (target - c) / x with weight |x| times the old one, so that the
    next fit has all powers from 1 on free again.
    """
    # At 0 no later coefficient changes anything, so 0 cannot take part in the exchange.
    points = [x for x in chebyshev_points(polynomial.interval, FIT_POINTS) if x != 0]
    targets = [polynomial.target(x) for x in points]
    weights = [polynomial.weight(x) for x in points]
    coefficients: list[Number] = []
    for degree in range(polynomial.degree[dtype], -1, -1):
        lowest = rounded(minimax(points, targets, weights, degree)[0], SIGNIFICAND_BITS[dtype])
        coefficients.append(lowest)
        targets = [(target - lowest) / x for target, x in zip(targets, points, strict=True)]
        weights = [weight * abs(x) for weight, x in zip(weights, points, strict=True)]
    return coefficients


def largest_error(polynomial: Polynomial, coefficients: Sequence[Number]) -> Number:
    """Return the largest weighted error on a grid of evenly spaced points."""
    return max(
        polynomial.weight(x) * abs(evaluate(coefficients, x) - polynomial.target(x))
        for x in context.linspace(*polynomial.interval, MEASURE_POINTS)
    )


# --- The file -----------------------------------------------------------------------------------

HEADER = '''\
# Generated by tools/generate_coefficients.py; do not edit.
"""Minimax polynomials, lowest order first, and constants, for float32 and float64.

Every number is exact in its number type. The errors are relative errors of the
whole approximation, in exact arithmetic, with the coefficients as written.
"""
'''


def render_polynomial(polynomial: Polynomial) -> str:
    """Return the table of one polynomial with its comment."""
    achieved, table = [], []
    for dtype, degree in polynomial.degree.items():
        coefficients = fit(polynomial, dtype)
        bits = -context.log(largest_error(polynomial, coefficients), 2)
        # Round towards the larger error, so that the comment never promises too much.
        achieved.append(f"{dtype}: degree {degree}, error 2^-{math.floor(bits * 10) / 10}")
        rows = "".join(f"        {float(coefficient)!r},\n" for coefficient in coefficients)
        table.append(f'    "{dtype}": (\n{rows}    ),\n')
    return (
        f"# {polynomial.comment}.\n# {'; '.join(achieved)}.\n"
        f"{polynomial.name}: dict[str, tuple[float, ...]] = {{\n{''.join(table)}}}\n"
    )


def render_constant(constant: Constant) -> str:
    """Return the table of one constant with its comment."""
    rows = "".join(f'    "{dtype}": {value!r},\n' for dtype, value in constant.value.items())
    return f"# {constant.comment}\n{constant.name}: dict[str, float] = {{\n{rows}}}\n"


def render() -> str:
    """Return the whole text of ``fastact/vecmath/coefficients.py``."""
    return "\n".join(
        [
            HEADER,
            *(render_polynomial(polynomial) for polynomial in POLYNOMIALS),
            *(render_constant(constant) for constant in constants()),
        ]
    )


def main() -> int:
    """Write the file, or with ``--check`` compare it, and return the exit status."""
    parser = argparse.ArgumentParser(description="Generate fastact/vecmath/coefficients.py.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if the file differs"
    )
    check = parser.parse_args().check
    text = render()
    if not check:
        OUTPUT.write_text(text, encoding="utf-8", newline="\n")
        return 0
    present = OUTPUT.read_text(encoding="utf-8") if OUTPUT.exists() else ""
    if present == text:
        return 0
    difference = difflib.unified_diff(
        present.splitlines(), text.splitlines(), "present", "generated", lineterm=""
    )
    print(*difference, sep="\n", file=sys.stderr)
    print(
        f"{OUTPUT} is not what this script generates:"
        " run python tools/generate_coefficients.py and commit the result.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
