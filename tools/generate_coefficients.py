"""Generate ``fastact/vecmath/coefficients.py``.

Every polynomial is a minimax fit, found by a Remez exchange in 60-digit
arithmetic, with coefficients rounded to the floating-point type that uses them.
To add a polynomial, add an entry to ``POLYNOMIALS``.

``python tools/generate_coefficients.py`` rewrites the file; with ``--check`` it
fails if the file is out of date.
"""

import argparse
import difflib
import functools
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
Interval = tuple[Number, Number]


# --- What to generate ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Polynomial:
    """A polynomial Q(x) to fit to ``target(x)`` on an interval, separately for each type.

    The fit minimises the maximum of ``weight(x) * |Q(x) - target(x)|``: ``weight``
    turns an error of Q into a relative error of the final result. The target is the
    function that Q itself replaces, with the exact leading terms subtracted and
    divided out. All powers 1, x, ..., x^degree are then free, as the Remez exchange
    requires to find the optimum; pinning a leading term inside the fit would
    silently lose bits.
    """

    name: str
    comment: str
    target: Function
    weight: Function
    interval: dict[str, Interval]
    degree: dict[str, int]


def everywhere(low: Number, high: Number) -> dict[str, Interval]:
    """Return the same interval for all types."""
    return dict.fromkeys(SIGNIFICAND_BITS, (context.convert(low), context.convert(high)))


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


def log_tail(z: Number) -> Number:
    """Return (2 atanh(s) - 2 s - 2/3 s z) / (s z^2) with s = sqrt(z)."""
    if z == 0:
        return context.mpf(2) / 5
    with context.extradps(2 * context.dps):  # The subtraction cancels near 0.
        s = context.sqrt(z)
        return (2 * context.atanh(s) - 2 * s - 2 * s * z / 3) / (s * z * z)


def log_tail_weight(z: Number) -> Number:
    """Return s z^2 / (2 atanh(s)) with s = sqrt(z)."""
    return atanh_weight(z) * z


def sinh_tail(z: Number) -> Number:
    """Return (sinh(a) - a) / (a z) with a = sqrt(z)."""
    if z == 0:
        return context.mpf(1) / 6
    with context.extradps(context.dps):  # The subtraction cancels near 0.
        a = context.sqrt(z)
        return (context.sinh(a) - a) / (a * z)


def sinh_weight(z: Number) -> Number:
    """Return a z / sinh(a) with a = sqrt(z)."""
    if z == 0:
        return context.mpf(0)
    a = context.sqrt(z)
    return a * z / context.sinh(a)


def arctan_tail(z: Number) -> Number:
    """Return (arctan(t) - t) / (t z) with t = sqrt(z)."""
    if z == 0:
        return -context.mpf(1) / 3
    with context.extradps(context.dps):  # The subtraction cancels near 0.
        t = context.sqrt(z)
        return (context.atan(t) - t) / (t * z)


def arctan_weight(z: Number) -> Number:
    """Return t z / arctan(t) with t = sqrt(z)."""
    if z == 0:
        return context.mpf(0)
    t = context.sqrt(z)
    return t * z / context.atan(t)


def erf_tail(z: Number) -> Number:
    """Return erf(x) / x - 1 with x = sqrt(z)."""
    if z == 0:
        return 2 / context.sqrt(context.pi) - 1
    x = context.sqrt(z)
    return context.erf(x) / x - 1


def erfcx(t: Number) -> Number:
    """Return exp(t^2) erfc(t)."""
    return context.exp(t**2) * context.erfc(t)


def from_u(u: Number, k: float) -> Number:
    """Return a for u = 1/2 - k / (a + k)."""
    return k * (1 + 2 * u) / (1 - 2 * u)


def to_u(a: Number, k: float) -> Number:
    """Return u = 1/2 - k / (a + k)."""
    return context.mpf(1) / 2 - k / (context.convert(a) + k)


def scaled_erfcx(u: Number) -> Number:
    """Return (a + ERFC_K) erfcx(a)."""
    a = from_u(u, ERFC_K)
    return (a + ERFC_K) * erfcx(a)


def scaled_mills_ratio(u: Number) -> Number:
    """Return (a + NORMAL_K) exp(a^2 / 2) Phi(-a), for the standard normal distribution Phi."""
    a = from_u(u, NORMAL_K)
    return (a + NORMAL_K) * erfcx(a / context.sqrt(2)) / 2


def sin_tail(z: Number) -> Number:
    """Return (sin(r) - r) / (r z) with r = sqrt(z)."""
    if z == 0:
        return -context.mpf(1) / 6
    with context.extradps(context.dps):  # The subtraction cancels near 0.
        r = context.sqrt(z)
        return (context.sin(r) - r) / (r * z)


def sin_weight(z: Number) -> Number:
    """Return r z / sin(r) with r = sqrt(z)."""
    if z == 0:
        return context.mpf(0)
    r = context.sqrt(z)
    return r * z / context.sin(r)


def cos_tail(z: Number) -> Number:
    """Return (cos(r) - 1 + z / 2) / z^2 with r = sqrt(z)."""
    if z == 0:
        return context.mpf(1) / 24
    with context.extradps(context.dps):  # The subtraction cancels near 0.
        return (context.cos(context.sqrt(z)) - 1 + z / 2) / z**2


# Rounding x / ln2 to an integer leaves |r| <= ln2/2; the margin allows for the error of the
# quotient.
REDUCED = context.ln2 / 2 * (1 + context.mpf(2) ** -10)

# The maximum of |f / (2 + f)| for sqrt(1/2) <= 1 + f <= sqrt(2), reached at both ends.
LARGEST_S = (context.sqrt(2) - 1) / (context.sqrt(2) + 1)

# Rounding x / (pi/2) to an integer leaves |r| <= pi/4, with the same margin.
QUARTER_TURN = context.pi / 4 * (1 + context.mpf(2) ** -10)

# For erfcx(a) = Q(u) / (a + K) with u = 1/2 - K / (a + K), and likewise for the normal distribution. A small K makes
# Q(u) vary little, so that an error in u does little harm, and a larger one gives a smaller degree. Among the multiples
# of 1/512 nearby it is the one whose Q(0) is almost representable in both types: rounding Q(0) costs up to a bit,
# which no other coefficient can make up for at u = 0. From ZERO on, results are zero.
ERFC_K = 1.494140625
ERFC_ZERO = {"float32": 10.25, "float64": 27.25}
NORMAL_K = 1.986328125
NORMAL_ZERO = {"float32": 14.75, "float64": 38.75}

# The tangent of pi/8.
LARGEST_TANGENT = (context.sqrt(2) - 1) * (1 + context.mpf(2) ** -10)

POLYNOMIALS = (
    Polynomial(
        name="EXP",
        comment="exp(r) ~ 1 + r + r^2 Q(r) for |r| <= ln2/2 (1 + 2^-10)",
        target=exp_tail,
        weight=lambda r: r**2 / context.exp(r),
        interval=everywhere(-REDUCED, REDUCED),
        degree={"float32": 4, "float64": 9},
    ),
    Polynomial(
        name="EXPM1",
        comment="expm1(r) ~ r + r^2 Q(r) for |r| <= ln2/2 (1 + 2^-10)",
        target=exp_tail,
        weight=lambda r: abs(r**2 / context.expm1(r)) if r else context.mpf(0),
        interval=everywhere(-REDUCED, REDUCED),
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
        interval=everywhere(0, LARGEST_S**2),
        degree={"float32": 3, "float64": 6},
    ),
    Polynomial(
        name="LOG1P",
        comment="log(1 + e) ~ 2 s + s z Q(z), s = e / (2 + e), z = s^2, for 0 <= e <= 1",
        target=atanh_tail,
        weight=atanh_weight,
        interval=everywhere(0, context.mpf(1) / 9),
        degree={"float32": 3, "float64": 9},
    ),
    Polynomial(
        name="LOG_TAIL",
        comment=(
            "log(1 + f) ~ 2 s + 2/3 s z + s z^2 Q(z), s = f / (2 + f), z = s^2,"
            " for sqrt(1/2) <= 1 + f <= sqrt(2)"
        ),
        target=log_tail,
        weight=log_tail_weight,
        interval=everywhere(0, LARGEST_S**2),
        degree={"float32": 2, "float64": 6},
    ),
    Polynomial(
        name="SINH",
        comment="sinh(a) ~ a + a z Q(z), z = a^2, for 0 <= a <= 1",
        target=sinh_tail,
        weight=sinh_weight,
        interval=everywhere(0, 1),
        degree={"float32": 3, "float64": 6},
    ),
    Polynomial(
        name="ARCTAN",
        comment="arctan(t) ~ t + t z Q(z), z = t^2, for |t| <= tan(pi/8) (1 + 2^-10)",
        target=arctan_tail,
        weight=arctan_weight,
        interval=everywhere(0, LARGEST_TANGENT**2),
        degree={"float32": 4, "float64": 10},
    ),
    Polynomial(
        name="ERF",
        comment="erf(x) ~ x + x Q(x^2) for |x| <= 1/2",
        target=erf_tail,
        weight=lambda z: 1 / (1 + erf_tail(z)),
        interval=everywhere(0, 0.25),
        degree={"float32": 4, "float64": 8},
    ),
    Polynomial(
        name="ERFC",
        comment=(
            "exp(a^2) erfc(a) ~ Q(u) / (a + ERFC_K), u = 1/2 - ERFC_K / (a + ERFC_K),"
            " for 0 <= a <= ERFC_ZERO"
        ),
        target=scaled_erfcx,
        weight=lambda u: 1 / scaled_erfcx(u),
        interval={dtype: (context.mpf(-1) / 2, to_u(a, ERFC_K)) for dtype, a in ERFC_ZERO.items()},
        degree={"float32": 11, "float64": 27},
    ),
    Polynomial(
        name="NORMAL",
        comment=(
            "exp(a^2 / 2) Phi(-a) ~ Q(u) / (a + NORMAL_K), u = 1/2 - NORMAL_K / (a + NORMAL_K),"
            " for 0 <= a <= NORMAL_ZERO"
        ),
        target=scaled_mills_ratio,
        weight=lambda u: 1 / scaled_mills_ratio(u),
        interval={
            dtype: (context.mpf(-1) / 2, to_u(a, NORMAL_K)) for dtype, a in NORMAL_ZERO.items()
        },
        degree={"float32": 11, "float64": 27},
    ),
    Polynomial(
        name="SIN",
        comment="sin(r) ~ r + r z Q(z), z = r^2, for |r| <= pi/4 (1 + 2^-10)",
        target=sin_tail,
        weight=sin_weight,
        interval=everywhere(0, QUARTER_TURN**2),
        degree={"float32": 2, "float64": 5},
    ),
    Polynomial(
        name="COS",
        comment="cos(r) ~ 1 - z / 2 + z^2 Q(z), z = r^2, for |r| <= pi/4 (1 + 2^-10)",
        target=cos_tail,
        weight=lambda z: z**2 / context.cos(context.sqrt(z)),
        interval=everywhere(0, QUARTER_TURN**2),
        degree={"float32": 2, "float64": 5},
    ),
)

# LN2_SHORT_HIGH has this many significant bits. The other bits of the significand, 12 in float32
# and 21 in float64, are zero: its product with an exponent of at most 8 or 11 bits is exact without
# a fused multiply-add.
SHORT_BITS = {"float32": 12, "float64": 32}


# The bits of 2/pi are stored in words of this size, small enough to convert to floating point by
# adding and subtracting a large number. There is one word more than the largest number needs.
WORD_BITS = {"float32": 22, "float64": 50}
LARGEST_EXPONENT = {"float32": 127, "float64": 1023}
WORDS_PER_PRODUCT = 4


@dataclass(frozen=True)
class Constant:
    """A number, or a tuple of integers, for each type."""

    name: str
    comment: str
    value: dict[str, Any]


def parts(value: Number, dtype: str, count: int) -> list[float]:
    """Return the value as an unevaluated sum: each part is the rounded error of those before it."""
    found: list[float] = []
    for _ in range(count):
        found.append(float(rounded(value, SIGNIFICAND_BITS[dtype])))
        value -= found[-1]
    return found


def words_of_two_over_pi(dtype: str) -> tuple[int, ...]:
    """Return a zero word, followed by the fraction bits of 2/pi."""
    bits = WORD_BITS[dtype]
    # A product takes this many words, starting at the bit that the last bit of the largest number
    # scales to 2; a shift of less than a word takes one more.
    needed = LARGEST_EXPONENT[dtype] + 1 - SIGNIFICAND_BITS[dtype] + WORDS_PER_PRODUCT * bits
    count = needed // bits + 2
    with context.workprec(bits * count + 20):
        fraction = int(context.floor(context.ldexp(2 / context.pi, bits * count)))
    words = [fraction >> bits * (count - 1 - i) & ((1 << bits) - 1) for i in range(count)]
    return (0, *words)


def constants() -> list[Constant]:
    """Return logarithms, pi/2, the normal density at zero and 1/3, in parts."""
    ln2, half_pi, third = +context.ln2, context.pi / 2, context.mpf(1) / 3
    density = 1 / context.sqrt(2 * context.pi)

    def by_dtype(function: Callable[[str], Any]) -> dict[str, Any]:
        return {dtype: function(dtype) for dtype in SIGNIFICAND_BITS}

    def part(value: Number, index: int) -> dict[str, float]:
        return by_dtype(lambda dtype: parts(value, dtype, index + 1)[index])

    short_high = by_dtype(lambda dtype: float(rounded(ln2, SHORT_BITS[dtype])))

    return [
        Constant("LOG2_E", "1 / ln2.", part(1 / ln2, 0)),
        Constant("LOG2_E_LOW", "1 / ln2 - LOG2_E.", part(1 / ln2, 1)),
        Constant("LOG10_E", "1 / ln10.", part(1 / context.ln10, 0)),
        Constant("LOG10_E_LOW", "1 / ln10 - LOG10_E.", part(1 / context.ln10, 1)),
        Constant("THIRD", "1 / 3.", part(third, 0)),
        Constant("THIRD_LOW", "1 / 3 - THIRD.", part(third, 1)),
        Constant("LN2_HIGH", "ln2, for a reduction with fma.", part(ln2, 0)),
        Constant("LN2_LOW", "ln2 - LN2_HIGH.", part(ln2, 1)),
        Constant(
            "LN2_SHORT_HIGH",
            "ln2 to "
            + " and ".join(f"{bits} bits in {dtype}" for dtype, bits in SHORT_BITS.items())
            + ", so that its product with an exponent is exact.",
            short_high,
        ),
        Constant(
            "LN2_SHORT_LOW",
            "ln2 - LN2_SHORT_HIGH.",
            by_dtype(lambda dtype: parts(ln2 - short_high[dtype], dtype, 1)[0]),
        ),
        Constant("ERFC_K", "The K of ERFC.", by_dtype(lambda _: ERFC_K)),
        Constant("ERFC_ZERO", "erfc is zero above.", ERFC_ZERO),
        Constant("NORMAL_K", "The K of NORMAL.", by_dtype(lambda _: NORMAL_K)),
        Constant("NORMAL_ZERO", "Phi(-a), phi(a) and a phi(a) are zero above.", NORMAL_ZERO),
        Constant("DENSITY_HIGH", "1 / sqrt(2 pi).", part(density, 0)),
        Constant("DENSITY_LOW", "1 / sqrt(2 pi) - DENSITY_HIGH.", part(density, 1)),
        Constant("TWO_OVER_PI", "2 / pi.", part(1 / half_pi, 0)),
        Constant("HALF_PI_HIGH", "pi / 2.", part(half_pi, 0)),
        Constant("HALF_PI_MIDDLE", "pi / 2 - HALF_PI_HIGH.", part(half_pi, 1)),
        Constant("HALF_PI_LOW", "pi / 2 - HALF_PI_HIGH - HALF_PI_MIDDLE.", part(half_pi, 2)),
        Constant(
            "TWO_OVER_PI_WORDS",
            "A zero word, then the fraction bits of 2 / pi in words of "
            + " and ".join(f"{bits} bits in {dtype}" for dtype, bits in WORD_BITS.items())
            + ".",
            by_dtype(words_of_two_over_pi),
        ),
    ]


# --- The fit ------------------------------------------------------------------------------------

# The sizes of the grid for the exchange, and of another one to measure the result. Between points
# of the first grid the error rises by at most 0.1 %.
FIT_POINTS = 400
MEASURE_POINTS = 4000

# The exchange stops when the largest error exceeds the levelled error by less than this fraction.
LEVEL_TOLERANCE = 1e-6
MAXIMUM_EXCHANGES = 100


def rounded(value: Number, bits: int) -> Number:
    """Return the nearest number with ``bits`` significant bits, rounded once.

    Going through float() would round to float32 twice. The exponent is unbounded,
    which is correct for normal numbers.
    """
    with context.workprec(bits):
        return +value


def evaluate(coefficients: Sequence[Number], x: Number) -> Number:
    """Return the polynomial at x; the coefficients are in ascending order."""
    return functools.reduce(lambda total, each: each + x * total, reversed(coefficients))


def chebyshev_points(interval: Interval, count: int) -> list[Number]:
    """Return the extrema of a Chebyshev polynomial: dense at the ends, and including them."""
    low, high = interval
    middle, radius = (low + high) / 2, (high - low) / 2
    return [middle - radius * context.cospi(context.mpf(i) / (count - 1)) for i in range(count)]


def levelled(
    points: Sequence[Number], targets: Sequence[Number], weights: Sequence[Number]
) -> tuple[list[Number], Number]:
    """Return the polynomial with weighted error +level, -level, ... at the points, and level.

    There is one coefficient fewer than points.
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
    """Return the indices of ``count`` errors of alternating sign, none below level.

    The largest error is among them, so the level grows with each exchange, which
    makes the exchange converge.
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
        raise ArithmeticError(f"{len(peaks)} alternating errors, but {count} are needed")
    while len(peaks) > count:
        peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
    return peaks


def minimax(
    points: Sequence[Number], targets: Sequence[Number], weights: Sequence[Number], degree: int
) -> list[Number]:
    """Return the polynomial with the least maximum weighted error, by Remez exchange."""
    count = degree + 2
    # The classical start: evenly spaced indices of a Chebyshev grid are close to the extrema of a
    # Chebyshev polynomial.
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
    """Return minimax coefficients that are exact in the type.

    The lowest coefficient matters most: it is rounded first, the others are fitted
    again to compensate, and so on. With c pinned, the remaining target is
    (target - c) / x with the weight multiplied by |x|, so that all powers are free
    again in the next fit.
    """
    # At 0 later coefficients have no effect, so 0 cannot take part in the exchange.
    points = [x for x in chebyshev_points(polynomial.interval[dtype], FIT_POINTS) if x != 0]
    targets = [polynomial.target(x) for x in points]
    weights = [polynomial.weight(x) for x in points]
    coefficients: list[Number] = []
    for degree in range(polynomial.degree[dtype], -1, -1):
        lowest = rounded(minimax(points, targets, weights, degree)[0], SIGNIFICAND_BITS[dtype])
        coefficients.append(lowest)
        targets = [(target - lowest) / x for target, x in zip(targets, points, strict=True)]
        weights = [weight * abs(x) for weight, x in zip(weights, points, strict=True)]
    return coefficients


def largest_error(polynomial: Polynomial, dtype: str, coefficients: Sequence[Number]) -> Number:
    """Return the largest weighted error on a grid of evenly spaced points."""
    return max(
        polynomial.weight(x) * abs(evaluate(coefficients, x) - polynomial.target(x))
        for x in context.linspace(*polynomial.interval[dtype], MEASURE_POINTS)
    )


# --- The file -----------------------------------------------------------------------------------

HEADER = '''\
# Generated by tools/generate_coefficients.py; do not edit.
"""Minimax polynomials, in ascending order, and constants, for float32 and float64.

Every number is exact in its type. Errors are relative errors of the whole
approximation, in exact arithmetic, with the coefficients as written.
"""
'''


def render_polynomial(polynomial: Polynomial) -> str:
    """Return the table of one polynomial with its comment."""
    achieved, table = [], []
    for dtype, degree in polynomial.degree.items():
        coefficients = fit(polynomial, dtype)
        bits = -context.log(largest_error(polynomial, dtype, coefficients), 2)
        # Round towards the larger error: the comment must not promise too much.
        achieved.append(f"{dtype}: degree {degree}, error 2^-{math.floor(bits * 10) / 10}")
        rows = "".join(f"        {float(coefficient)!r},\n" for coefficient in coefficients)
        table.append(f'    "{dtype}": (\n{rows}    ),\n')
    return (
        f"# {polynomial.comment}.\n# {'; '.join(achieved)}.\n"
        f"{polynomial.name}: dict[str, tuple[float, ...]] = {{\n{''.join(table)}}}\n"
    )


def render_constant(constant: Constant) -> str:
    """Return the table of one constant with its comment."""
    if isinstance(constant.value["float32"], tuple):
        kind = "tuple[int, ...]"
        rows = "".join(
            f'    "{dtype}": (\n' + "".join(f"        {word!r},\n" for word in words) + "    ),\n"
            for dtype, words in constant.value.items()
        )
    else:
        kind = "float"
        rows = "".join(f'    "{dtype}": {value!r},\n' for dtype, value in constant.value.items())
    return f"# {constant.comment}\n{constant.name}: dict[str, {kind}] = {{\n{rows}}}\n"


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
        f"{OUTPUT} is out of date: run python tools/generate_coefficients.py and commit the result.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
