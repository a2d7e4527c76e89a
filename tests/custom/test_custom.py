"""Activations of one's own: what a plain function becomes, against formulas and their differences."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import own_activations as own
import pytest
from fresh_process import assert_clean, run_python
from numpy.typing import NDArray

import fastact as fa
from fastact.runtime.ufunc import make_ufunc
from fastact.system.numpy_api import MAX_OPERANDS

Array = NDArray[Any]
X = np.concatenate([np.linspace(-6, 6, 98), [0.005, -0.005, 20.0, -20.0]])
every_own = pytest.mark.parametrize("item", own.FORMULAS, ids=lambda item: item.name)


def central_difference(function: Any, x: Array, step: float = 1e-3) -> Array:
    """Differentiate by the formula of order six."""
    weights = {1: 45, 2: -9, 3: 1}
    total = sum(w * (function(x + k * step) - function(x - k * step)) for k, w in weights.items())
    return np.asarray(total) / (60 * step)


@every_own
def test_value_and_derivative(item: Any) -> None:
    formula = own.FORMULAS[item]
    value, derivative = item.value_and_derivative(X)
    np.testing.assert_allclose(value, formula(X), 1e-13, 1e-13)
    np.testing.assert_allclose(derivative, central_difference(formula, X), 1e-8, 1e-9)
    in_float32 = item.value_and_derivative(X.astype(np.float32))
    for got, wanted in zip(in_float32, (value, derivative), strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, 2e-5, 2e-6)


@every_own
def test_every_operation(item: Any) -> None:
    dy = np.cos(X)
    value, derivative = item.value_and_derivative(X)
    np.testing.assert_array_equal(item(X), value)
    np.testing.assert_array_equal(item.derivative(X), derivative)
    np.testing.assert_allclose(item.backward(dy, X), dy * derivative, 1e-15)
    for got, wanted in zip(item.forward_backward(X, dy), (value, dy * derivative), strict=True):
        np.testing.assert_allclose(got, wanted, 1e-15)
    with pytest.raises(AttributeError, match="not a function of the output"):
        item.backward_from_output(dy, value)


@pytest.mark.parametrize("item", [own.swishy, own.pair, own.with_learnable, own.with_all_functions])
def test_second_derivative(item: Any) -> None:
    x = X[np.abs(X) > 0.1]
    wanted = central_difference(item.derivative, x)
    np.testing.assert_allclose(item.second_derivative(x), wanted, 1e-7, 1e-8)


def test_no_second_derivative_with_kinks() -> None:
    with pytest.raises(AttributeError, match="second_derivative: the derivative jumps"):
        own.in_numpy_words.second_derivative(X)


def test_parameters() -> None:
    assert dict(own.swishy.parameters) == {"beta": 1.5}
    np.testing.assert_allclose(own.swishy(X, beta=0.3), X / (1 + np.exp(-0.3 * X)), 1e-14)
    np.testing.assert_allclose(own.swishy.bind(beta=0.3)(X), X / (1 + np.exp(-0.3 * X)), 1e-14)
    with pytest.raises(TypeError, match="swishy: unknown argument 'gamma'"):
        own.swishy(X, gamma=1)


def test_learnable_parameter() -> None:
    dy = np.cos(X)
    a = np.float64(0.7)
    y, dx, da = own.with_learnable.forward_backward(X, dy, a=a)
    np.testing.assert_allclose(y, X * np.tanh(a * X), 1e-14)
    slope = 1 / np.cosh(a * X) ** 2
    np.testing.assert_allclose(dx, dy * (np.tanh(a * X) + a * X * slope), 1e-12, 1e-14)
    np.testing.assert_allclose(da, np.sum(dy * X * X * slope), 1e-12)
    assert own.with_learnable.learnable == ("a",)


def test_half_types() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype in (np.float16, ml_dtypes.bfloat16):
        x = X.astype(dtype)
        wanted = own.swishy.value_and_derivative(x.astype(np.float32))
        for got, right in zip(own.swishy.value_and_derivative(x), wanted, strict=True):
            assert got.dtype == dtype
            np.testing.assert_array_equal(got, right.astype(dtype))


def test_nan_and_threads() -> None:
    assert np.isnan(own.swishy(np.nan))
    assert np.isnan(own.swishy.derivative(np.nan))
    x = np.random.default_rng(0).normal(0, 3, 300_001).astype(np.float32)
    before = fa.get_num_threads()
    fa.set_num_threads(1)
    alone = own.swishy(x)
    fa.set_num_threads(before)
    np.testing.assert_array_equal(own.swishy(x), alone)
    np.testing.assert_array_equal(own.swishy(x[::-3]), alone[::-3])


def test_genuine_ufuncs_that_pickle() -> None:
    assert list(own.pair.ufuncs) == [
        "forward",
        "derivative",
        "value_and_derivative",
        "backward",
        "forward_backward",
        "second_derivative",
    ]
    for ufunc in own.pair.ufuncs.values():
        assert isinstance(ufunc, np.ufunc)
        assert pickle.loads(pickle.dumps(ufunc)) is ufunc
    assert pickle.loads(pickle.dumps(own.pair)) is own.pair
    mask = X > 0
    out = np.full_like(X, 7)
    own.pair.ufuncs["forward"](X, out=out, where=mask)
    np.testing.assert_array_equal(out, np.where(mask, own.pair(X), 7))


def test_documentation() -> None:
    doc = inspect.getdoc(own.in_numpy_words)
    assert doc is not None
    for part in ("Say all in NumPy's words.", "The derivative at 0 is 0.", "Somebody, 2026."):
        assert part in doc
    assert "beta : float or array_like, default 1.5" in str(inspect.getdoc(own.swishy))
    assert str(inspect.signature(own.swishy)).startswith("(x, /, beta=1.5, *")


def test_check_derivative() -> None:
    for item in own.FORMULAS:
        assert 0 <= fa.check_derivative(item) < 1e-9
    for name in ("sigmoid", "tanh", "elu"):
        assert fa.check_derivative(fa.get(name)) < 1e-12
    with pytest.raises(ValueError, match=r"wrong_pair: at x = \d+\.\d+ the derivative is"):
        fa.check_derivative(own.wrong_pair)
    assert fa.check_derivative(own.wrong_pair, np.linspace(-1, 2, 50)) < 1e-12


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return x + unknown_name", "unknown_name"),
        ("return open(x)", "line 5"),
        ("y = x + 1\n    return y.shape", "line 6"),
        ("return 3.0", "does not depend on x"),
    ],
)
def test_what_cannot_be_compiled(body: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        f"import fastact as fa\n\n@fa.activation\ndef broken(x):\n    {body}\n"
    )
    script = """
        import numpy as np
        from broken import broken
        out = np.full(3, 7.0)
        try:
            broken(np.ones(3), out=out)
        except RuntimeError as error:
            print(error)
        assert (out == 7).all()
    """
    done = run_python(script, path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "broken" in done.stdout
    assert message in done.stdout
    assert len(done.stdout.splitlines()) < 25, done.stdout


@pytest.mark.parametrize("function", [np.exp, 3, len, own.pair], ids=repr)
def test_only_plain_functions(function: Any) -> None:
    with pytest.raises(TypeError, match="expected a plain function"):
        fa.activation(function)


def test_only_parameters_with_names() -> None:
    with pytest.raises(TypeError, match="arguments with names"):
        fa.activation(lambda x, *more: x)
    with pytest.raises(TypeError, match="no parameter 'slope'"):
        fa.activation(learnable="slope")(lambda x, a=1: a * x)


# Each parameter is an operand of the ufuncs, of which NumPy allows so many; a form with all that can be computed in the
# same pass has 13 others.
MOST_PARAMETERS = 51


def with_parameters(count: int) -> Any:
    """Return a function with so many parameters: x times their sum."""
    names = [f"p{k}" for k in range(count)]
    space: dict[str, Any] = {}
    exec(f"def many(x, {', '.join(names)}):\n    return x * ({' + '.join(names)})", space)
    return space["many"]


# Fresh processes: too small a stack ends them.
MANY = """
    import numpy as np
    from test_custom import with_parameters

    import fastact as fa

    many = fa.activation(with_parameters({count}))
    parameters = {{f"p{{k}}": 0.5 * k for k in range({count})}}
    total = sum(parameters.values())
    rows, columns = 400, 500
    x = np.linspace(-1, 1, rows * columns).reshape(rows, columns)
    dy = np.cos(x)
"""


@pytest.mark.parametrize("count", [12, 13, 14, MOST_PARAMETERS])
def test_many_parameters(count: int) -> None:
    """In calls that threads share, contiguous and strided, with numbers and with arrays."""
    script = """
        for step in (1, -2):
            for as_parameter in (float, lambda value: np.full(x[::step].shape, value)):
                given = {name: as_parameter(value) for name, value in parameters.items()}
                y, dx = many.forward_backward(x[::step], dy[::step], **given)
                np.testing.assert_allclose(y, x[::step] * total, 1e-12)
                np.testing.assert_allclose(dx, dy[::step] * total, 1e-12)
    """
    assert_clean(run_python(dedent(MANY.format(count=count)) + dedent(script)))


def test_many_parameters_in_the_same_pass() -> None:
    script = """
        bias = np.linspace(0, 1, columns)
        options = {"bias": bias, "dropout": 0.5, "rng": 1, "residual": x, "scale": 1.0, **parameters}
        y, dx, dbias = many.forward_backward(x, dy, **options)
        is_kept = fa.dropout(np.ones_like(x), 0.5, rng=1) != 0
        np.testing.assert_allclose(y, x + is_kept * 2 * total * (x + bias), 1e-12, 1e-12)
        np.testing.assert_allclose(dx, is_kept * 2 * total * dy, 1e-12)
        np.testing.assert_allclose(dbias, dx.sum(axis=0), 1e-9)
    """
    assert_clean(run_python(dedent(MANY.format(count=MOST_PARAMETERS)) + dedent(script)))


def test_too_many_parameters() -> None:
    with pytest.raises(ValueError, match=r"many has 52 parameters; .* room for 51") as raised:
        fa.activation(with_parameters(MOST_PARAMETERS + 1))
    assert "\n" not in str(raised.value)


def test_too_many_operands() -> None:
    """What is taken for NumPy's limit is NumPy's limit, and it does not make a ufunc beyond it."""
    np.frompyfunc(max, MAX_OPERANDS - 1, 1)
    with pytest.raises(ValueError, match=f"more than {MAX_OPERANDS} operands"):
        np.frompyfunc(max, MAX_OPERANDS, 1)
    with pytest.raises(ValueError, match=f"more than {MAX_OPERANDS} operands"):
        make_ufunc("none", "too_many", "", ["x"] * MAX_OPERANDS, ["y"], [])
