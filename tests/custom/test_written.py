"""What people write in activations of their own: NumPy's, `math`'s and Python's words, masks, numbers of every kind.

Each body is evaluated as it stands on mpmath's numbers, with mpmath's functions under NumPy's names, and differentiated
there; at kinks the derivative is the one that `fastact.numba_support.words` documents.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest
from numpy.typing import NDArray
from reference import context

import fastact as fa

Array = NDArray[Any]

# Without the numbers at which these bodies have kinks.
X = np.array([-3.7, -2.6, -1.3, -0.7, -0.2, 0.15, 0.3, 0.7, 1.3, 1.7, 2.3, 3.6])


def _floor(x: Any) -> Any:
    return context.floor(x)


def _where(condition: Any, a: Any, b: Any) -> Any:
    return context.mpf(a if condition else b)


def _clip(x: Any, a_min: Any = None, a_max: Any = None) -> Any:
    x = x if a_min is None else max(x, a_min)
    return x if a_max is None else min(x, a_max)


def _round(x: Any) -> Any:
    return context.mpf(round(float(x)))  # halves are not among the points


# What the words mean, on mpmath's numbers.
WORDS: dict[str, Callable[..., Any]] = {
    "maximum": max,
    "minimum": min,
    "fmax": max,
    "fmin": min,
    "clip": _clip,
    "where": _where,
    "sign": context.sign,
    "heaviside": lambda x, h: context.mpf(1 if x > 0 else 0),
    "floor": _floor,
    "ceil": context.ceil,
    "trunc": lambda x: context.sign(x) * _floor(abs(x)),
    "fix": lambda x: context.sign(x) * _floor(abs(x)),
    "round": _round,
    "rint": _round,
    "around": _round,
    "isnan": context.isnan,
    "isinf": context.isinf,
    "isfinite": context.isfinite,
    "logical_and": lambda a, b: bool(a) and bool(b),
    "logical_or": lambda a, b: bool(a) or bool(b),
    "logical_xor": lambda a, b: bool(a) != bool(b),
    "logical_not": lambda a: not a,
    "square": lambda x: x * x,
    "reciprocal": lambda x: 1 / x,
    "absolute": abs,
    "abs": abs,
    "fabs": abs,
    "negative": lambda x: -x,
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "greater": lambda x, y: x > y,
    "less_equal": lambda x, y: x <= y,
    "power": lambda x, y: context.mpf(x) ** y,
    "float_power": lambda x, y: context.mpf(x) ** y,
    "pow": lambda x, y: context.mpf(x) ** y,
    "copysign": lambda x, y: abs(x) * (1 if y > 0 else -1),
    "hypot": context.hypot,
    "logaddexp": lambda x, y: context.log(context.exp(x) + context.exp(y)),
    "exp": context.exp,
    "exp2": lambda x: context.mpf(2) ** x,
    "expm1": context.expm1,
    "log": context.log,
    "log1p": context.log1p,
    "log2": lambda x: context.log(x, 2),
    "log10": context.log10,
    "sqrt": context.sqrt,
    "cbrt": lambda x: context.sign(x) * context.cbrt(abs(x)),
    "sin": context.sin,
    "cos": context.cos,
    "sinh": context.sinh,
    "cosh": context.cosh,
    "tanh": context.tanh,
    "erf": context.erf,
    "arcsinh": context.asinh,
    "asinh": context.asinh,
    "arctan": context.atan,
    "atan": context.atan,
    "pi": context.pi,
    "float32": float,
}
NAMES = {"K": 3, "FLAG": True, "HALF": np.float64(0.5)}

SMOOTH = [
    "abs(x) ** 0.3 + x ** 2 + x ** -1 + x ** K",
    "2.0 ** x + pow(x, 3) + pow(abs(x), HALF)",
    "(x * x + 1) ** (0.3 * x) + np.power(x, 2)",
    "math.pow(1.5, x) + np.power(abs(x), -0.7)",
    "np.float_power(abs(x), 2.5) + x ** p",
    "np.logaddexp(x, 0) + np.logaddexp(-x, 2 * x) + np.hypot(x, 1.0) + math.hypot(2 * x, x + 5)",
    "np.arctan(x) + math.atan(3 * x) + np.arcsinh(x) + math.asinh(-2 * x)",
    "np.sinh(x) + math.cosh(0.5 * x) + np.cosh(x) - math.sinh(2 * x)",
    "np.exp2(x) + np.log2(1 + x * x) + np.log10(2 + x * x) + np.cbrt(x + 7) + math.exp2(0.1 * x)",
]
PIECEWISE = [
    "max(x, 0) + 2 * min(x, 0.1) + max(0, 3 * x) + min(max(x, -1), 1.0) + max(x, 0.1 * x, -1)",
    "np.maximum(x, 0) + 2 * np.minimum(0.1, x) + 3 * np.fmax(x, -1) + 5 * np.fmin(1.5, x)",
    "np.clip(x, -1, 1) + 2 * np.clip(x, 0, None) + 3 * np.clip(x, a_min=None, a_max=0.5) + np.clip(x, 0.1 * x, 9)",
    "np.sign(x) * x ** 2 + np.heaviside(x, 0.5) * x + np.copysign(x, -1.0) + math.copysign(2.0, x)",
    "x - np.floor(x) + x * np.ceil(x) + np.round(x) * 3 + np.trunc(x) * 5 + np.fix(2 * x)",
    "round(x) * x + math.floor(x) + x * math.ceil(x) + np.rint(3 * x) + np.around(x) + math.trunc(x)",
    "np.where(x > 0, x, 0.1) + np.where(x > 1, 2.0, 3) * x + np.where(x < 0, -x, x * x)",
    "np.where(np.isnan(x), 0.0, x) + np.where(np.isinf(x) | np.logical_not(np.isfinite(x)), 1, x * x) + math.isnan(x)",
    "np.where(np.logical_and(x > 0, x < 1), x, 2) + np.where(np.logical_not(x > 0), x, 1)"
    " + np.logical_or(x > 2, x < -3) * x + np.logical_xor(x > 0, x > 1) * x",
    "np.square(x) + np.reciprocal(x) + np.absolute(x) + np.fabs(x) * 2 + math.fabs(x) * 3 + np.negative(x)",
    "(x > 0) * x + x * (x < 1) * 2 + ((x > 0) + (x > 1)) * x + ((x > 0) & (x < 1)) * x",
    "x * (1 - (x > 0)) + (x > -1) / 2 + (x > 0) * 0.5 - (x > 1) + (x >= 1) ** 2 + float(x > 2)",
    "x * FLAG + x * K + +x + x * n + flag * x",
    "np.where(flag, x, -x) + np.where(x - x, 1, x) + np.where(FLAG, x, 2)",
    "np.add(x, 1) * np.subtract(2, x) + np.multiply(x, x) + np.divide(x, 2) + np.greater(x, 0) + np.less_equal(x, 1)",
]
every_body = pytest.mark.parametrize("body", SMOOTH + PIECEWISE)


def written(body: str, **more: Any) -> Any:
    """Return a function with this body."""
    space = {"np": np, "math": math, "fa": fa, **NAMES, **more}
    exec(f"def written(x, n=2, p=3, flag=True):\n    return {body}", space)
    return space["written"]


def exact(body: str) -> Any:
    """Return the same function of mpmath's numbers."""
    words = SimpleNamespace(**WORDS)
    return written(body, np=words, math=words, round=_round, HALF=context.mpf(0.5))


@every_body
def test_value_and_derivative(body: str) -> None:
    item, formula = fa.activation(written(body)), exact(body)
    value, derivative = item.value_and_derivative(X)
    points = [context.mpf(x) for x in X]
    scale = 1 + np.abs(X) ** 3
    wanted = np.array([float(formula(x)) for x in points])
    np.testing.assert_allclose(value / scale, wanted / scale, 4e-14, 4e-14)
    wanted = np.array([float(context.diff(formula, x, h=context.mpf(10) ** -20)) for x in points])
    np.testing.assert_allclose(derivative / scale, wanted / scale, 4e-14, 4e-14)
    assert np.isnan(item(np.nan)) == ("isnan" not in body)


@pytest.mark.parametrize("body", SMOOTH[4:])
def test_float32(body: str) -> None:
    x = X.astype(np.float32)
    got = fa.activation(written(body))(x)
    assert got.dtype == np.float32
    wanted = np.array([float(exact(body)(context.mpf(float(each)))) for each in x])
    np.testing.assert_allclose(got, wanted, 4e-6, 4e-6)


@pytest.mark.parametrize("body", SMOOTH[4:])
def test_second_derivative(body: str) -> None:
    formula, x = exact(body), X[np.abs(X) > 0.1]
    got = fa.activation(written(body)).second_derivative(x)
    steps = {"n": 2, "h": context.mpf(10) ** -15}
    wanted = np.array([float(context.diff(formula, context.mpf(each), **steps)) for each in x])
    np.testing.assert_allclose(got, wanted, 1e-11, 1e-11)


KINKS = [
    ("max(x, 0)", 0.0, 1.0),
    ("max(0, x)", 0.0, 0.0),
    ("np.maximum(x, 0)", 0.0, 1.0),
    ("np.minimum(0.5, x)", 0.5, 0.0),
    ("np.clip(x, -1, 1)", -1.0, 1.0),
    ("np.clip(x, -1, 1)", 1.0, 1.0),
    ("abs(x)", 0.0, 1.0),
    ("(x > 0) * x", 0.0, 0.0),
    ("np.floor(x)", 1.0, 0.0),
    ("np.sign(x)", 0.0, 0.0),
    ("x > 0", 0.0, 0.0),
    ("abs(x) ** 0.5", 0.0, math.inf),
    ("x ** p", 0.0, 0.0),
    ("x ** 0", 0.0, 0.0),
    ("np.hypot(x, 0.0)", 0.0, 0.0),
]


@pytest.mark.parametrize(("body", "at", "derivative"), KINKS)
def test_kinks(body: str, at: float, derivative: float) -> None:
    assert fa.activation(written(body)).derivative(at) == derivative


def test_conversions() -> None:
    """To the type that is there already."""
    item = fa.activation(written("float(x > 0) + (x > 1).astype(np.float32) * x + x.astype(float)"))
    np.testing.assert_array_equal(item(X), (X > 0) + (X > 1) * X + X)


def test_special_values() -> None:
    """Of powers, and of step functions: as NumPy's, signs of zeros included."""
    points = np.array([-np.inf, -2.5, -0.5, -0.2, -0.0, 0.0, 0.2, 0.5, 1.5, np.inf, np.nan, 1e300])
    for body in (
        "np.floor(x)",
        "np.ceil(x)",
        "np.trunc(x)",
        "np.round(x)",
        "np.sign(x)",
        "x ** 0.5",
        "x ** p",
    ):
        got = fa.activation(written(body))(points)
        with np.errstate(all="ignore"):
            wanted = written(body)(points)
        if body == "x ** 0.5":  # NumPy takes a square root here, which differs at -0 and -inf
            wanted = np.array(
                [math.pow(x, 0.5) if x >= 0 or x == -np.inf else np.nan for x in points]
            )
        np.testing.assert_array_equal(got, wanted)
        is_number = ~np.isnan(got)
        np.testing.assert_array_equal(np.signbit(got)[is_number], np.signbit(wanted)[is_number])


def test_learnable_exponent() -> None:
    @fa.activation(learnable="p")
    def item(x: Any, p: Any) -> Any:
        return abs(x) ** p + np.logaddexp(p, x) + np.maximum(x, p)

    a, dy = 1.3, np.cos(X)
    _, _, da = item.forward_backward(X, dy, p=a)
    slope = np.abs(X) ** a * np.log(np.abs(X)) + 1 / (1 + np.exp(X - a)) + (a > X)
    np.testing.assert_allclose(da, np.sum(dy * slope), 1e-12)


def test_the_same_as_autograd() -> None:
    """PyTorch has the same derivatives, at a tie too where it has a convention."""
    torch = pytest.importorskip("torch")
    x = torch.linspace(-3, 3, 61, dtype=torch.float64)
    x = x[x.abs() > 1e-9]
    twins = {
        "(x * x + 1) ** x": lambda x: (x * x + 1) ** x,
        "np.clip(x, -1, 1)": lambda x: x.clamp(-1, 1),
        "np.logaddexp(x, 2 * x)": lambda x: torch.logaddexp(x, 2 * x),
        "np.hypot(x, 1)": lambda x: torch.hypot(x, torch.ones_like(x)),
        "np.where((x > 0) & (x < 1), x * x, x)": lambda x: torch.where((x > 0) & (x < 1), x * x, x),
        "x * (x > 0) - np.floor(x) * x": lambda x: x * (x > 0) - x.floor() * x,
    }
    for body, twin in twins.items():
        tensor = x.clone().requires_grad_()
        twin(tensor).sum().backward()
        assert tensor.grad is not None
        got = fa.activation(written(body)).derivative(x.numpy())
        np.testing.assert_allclose(got, tensor.grad.numpy(), 1e-13, 1e-14)


# --- What is refused ----------------------------------------------------------------------------

BRANCH = "a kernel cannot branch on {} (line {}): use fa.math.where(condition, a, b)"
REFUSED = {
    "if x > 0: return x\n    return -x": BRANCH.format("x", 3),
    "return x if x > 0 else -x": BRANCH.format("x", 3),
    "return x if x else -x": BRANCH.format("x", 3),
    "y = 2 * x\n    return x * ((y > 0) and (x < 1))": BRANCH.format("x", 4),
    "return x * (x > 0 or x < -1)": BRANCH.format("x", 3),
    "return x * (not x > 0)": BRANCH.format("x", 3),
    "while x > 0: x = x - 1\n    return x": BRANCH.format("x", 3),
    "return np.where(0 < x < 1, x, 0)": BRANCH.format("x", 3),
    "if flag: return x\n    return -x": BRANCH.format("flag", 3),
    "return helper(x)": "helper: " + BRANCH.format("z", 2),
    "return np.tan(x)": "np.tan is not available in a kernel (line 3): dir(fa.math) lists what is",
    "return np.linalg.norm(x)": "np.linalg.norm is not available in a kernel (line 3)",
    "return np.sum(x)": "np.sum is not available",
    "return np.zeros_like(x)": "np.zeros_like is not available",
    "return int(x)": "int is not available",
    "return open(x)": "open is not available in a kernel (line 3)",
    "return x + unknown": "name 'unknown' is not defined (line 3)",
    "return np.exp(x, out=x)": "np.exp does not take these arguments in a kernel (line 3)",
    "return x % 2": "the operator % is not available between these operands (line 3)",
    "x //= 2\n    return x": "the operator // is not available",
    "return x + 'a'": "the operator + is not available",
    "return x.shape": "x has no attribute 'shape' (line 3)",
    "return x[0]": "x has no elements (line 3)",
    "for each in x: pass\n    return x": "x has no elements (line 3)",
    "y = 0.0\n    for i in range(3): y = y + x\n    return y": "y is a number first and later depends on x (line 4)",
    "return fa.elu(x, 'a')": "fastact.elu: alpha must be real numbers, a scalar or an array; got a string",
    "return fa.elu(x, beta=2)": "fastact.elu: unknown parameter 'beta'; its parameters: alpha",
    "return fa.softmax(x)": "fastact.softmax is not available in compiled code",
    "return np.piecewise(x, [x < 0], [lambda x: -x])": "numpy.piecewise",
    "return 3.0": "its result does not depend on x",
    "return None": "its result does not depend on x",
}  # fmt: skip


def test_refused_in_one_line(tmp_path: Path) -> None:
    """The message says what is wrong, and where; what Numba said is its cause."""
    for number, (body, said) in enumerate(REFUSED.items()):
        file = tmp_path / f"refused_{number}.py"
        file.write_text(
            "import numpy as np, fastact as fa\n"
            f"def f(x, flag=True):\n    {body}\n"
            + "\ndef helper(z):\n    return z if z > 0 else -z\n"
        )
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        out = np.full(3, 7.0)
        with pytest.raises(RuntimeError) as raised:
            fa.activation(module.f)(np.ones(3), out=out)
        message = str(raised.value)
        said = said.replace(
            "branch on z (line 2)", "branch on z (line {})".format(5 + body.count("\n") + 1)
        )
        assert f"f: {said}" in message or said in message, (body, message)
        assert "\n" not in message, (body, message)
        assert raised.value.__cause__ is not None
        assert (out == 7).all()


def test_other_compiled_code_is_as_before() -> None:
    x = 0.25

    @numba.njit
    def run(x: Any, y: Any) -> Any:
        clipped = np.clip(y, 0, 1)
        return max(x, 0.5), x**0.5, np.where(x > 0, x, 0.0), round(x), clipped

    *got, clipped = run(x, X)
    assert got == [0.5, 0.5, 0.25, 0]
    np.testing.assert_array_equal(clipped, np.clip(X, 0, 1))
