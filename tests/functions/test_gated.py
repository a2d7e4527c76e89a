"""Gated units: values and gradients against formulas, PyTorch and finite differences."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from fresh_process import assert_clean, run_python
from references import REFERENCES
from representatives import with_long
from scipy import special

import fastact as fa
import fastact.ufuncs

UNITS = tuple(name for name in fa.names("packed") if hasattr(fa.get(name)._definition, "gate"))
every_unit = pytest.mark.parametrize("name", UNITS)


def opening(name: str, gate: Any) -> tuple[Any, Any]:
    """Return a gate's activation and its derivative, in float64."""
    activation = fa.get(fa.get(name)._definition.activation)
    with np.errstate(all="ignore"):
        reference = REFERENCES[activation.name].on_arrays
        return reference(np.asarray(gate, np.float64), **activation.parameters)


def expected(name: str, gate: Any, value: Any, dy: Any) -> tuple[Any, Any, Any]:
    """Return the value and the gradients by gate and value, in float64."""
    value, dy = np.asarray(value, np.float64), np.asarray(dy, np.float64)
    y, slope = opening(name, gate)
    return value * y, dy * value * slope, dy * y


def split(x: Any, axis: int, interleaved: bool) -> tuple[Any, Any]:
    if not interleaved:
        first, second = np.split(x, 2, axis)
        return first, second
    moved = np.moveaxis(x, axis, -1)
    return np.moveaxis(moved[..., ::2], -1, axis), np.moveaxis(moved[..., 1::2], -1, axis)


def normal(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "C": lambda x: x,
    "Fortran": np.asfortranarray,
    "reversed": lambda x: x[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "strided": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 2)[::2, :, ::3],
}


@pytest.mark.parametrize("name", with_long(UNITS, ("swiglu", "bilinear")))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_packed(name: str, layout: str) -> None:
    """Any axis, packed or interleaved, either half the gate, any layout."""
    unit, x = getattr(fa, name), LAYOUTS[layout](normal(6, 4, 10))
    x.flags.writeable = False
    for axis, interleaved, gate in product((0, 1, 2, -1, -3), (False, True), ("first", "second")):
        options = {"axis": axis, "interleaved": interleaved, "gate": gate}
        first, second = split(x, axis, interleaved)
        dy = LAYOUTS[layout](normal(*first.shape, seed=1))
        both = (first, second) if gate == "first" else (second, first)
        y, dgate, dvalue = expected(name, *both, dy)
        dfirst, dsecond = (dgate, dvalue) if gate == "first" else (dvalue, dgate)
        got_y, dx = unit.forward_backward(x, dy, **options)
        got = split(dx, axis, interleaved)
        for found, wanted in zip((got_y, *got), (y, dfirst, dsecond), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-15)
        np.testing.assert_array_equal(unit(x, **options), got_y)
        np.testing.assert_array_equal(unit.backward(dy, x, **options), dx)
        two = unit.forward_backward(first, second, dy, gate=gate)
        for found, wanted in zip(two, (got_y, *got), strict=True):
            np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(unit(first, second, gate=gate), got_y)
        for found, wanted in zip(unit.backward(dy, first, second, gate=gate), got, strict=True):
            np.testing.assert_array_equal(found, wanted)


@every_unit
def test_finite_differences(name: str) -> None:
    unit, x = getattr(fa, name), normal(3, 8)
    dy, direction, step = normal(3, 4, seed=1), normal(3, 8, seed=2), 1e-6
    change = unit(x + step * direction) - unit(x - step * direction)
    slope = np.sum(dy * change) / (2 * step)
    assert np.isclose(np.sum(unit.backward(dy, x) * direction), slope, rtol=1e-7)


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_narrow_types(dtype: str) -> None:
    """What is computed in float32 is rounded once; in float32 it stays within 4 units."""
    kind = np.dtype(dtype) if dtype != "bfloat16" else pytest.importorskip("ml_dtypes").bfloat16
    x, dy = normal(40, 66, dtype=kind), normal(40, 33, dtype=kind, seed=1)
    y, dx = fa.swiglu.forward_backward(x, dy)
    assert y.dtype == dx.dtype == kind
    unit = {"float16": 2**-11, "bfloat16": 2**-8}.get(dtype, 4 * 2**-24)
    wanted = expected("swiglu", *split(x.astype(np.float64), -1, False), dy)
    for found, exact in zip((y, *split(dx, -1, False)), wanted, strict=True):
        error = abs(found.astype(np.float64) - exact)
        assert np.all(error <= 1.01 * unit * abs(exact) + 2**-24)


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.bool_])
def test_integers(kind: Any) -> None:
    x = np.array([[1, 0, 1, 1]], kind)
    y = fa.swiglu(x)
    assert y.dtype == np.tanh(x).dtype
    np.testing.assert_allclose(y, [[special.expit(1.0), 0]], rtol=1e-3)


@every_unit
def test_against_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    f = {
        "glu": torch.sigmoid,
        "reglu": torch.relu,
        "squared_reglu": lambda gate: torch.relu(gate) ** 2,
        "geglu": functional.gelu,
        "geglu_tanh": lambda gate: functional.gelu(gate, approximate="tanh"),
        "swiglu": functional.silu,
        "bilinear": lambda gate: gate,
    }[name]
    x, dy = normal(5, 12), normal(5, 6, seed=1)
    leaf = torch.tensor(x, requires_grad=True)
    first, second = leaf.chunk(2, -1)
    # PyTorch has glu alone; of the others, the first half is the gate in the paper.
    y = functional.glu(leaf) if name == "glu" else f(first) * second
    y.backward(torch.tensor(dy))
    found, dx = getattr(fa, name).forward_backward(x, dy)
    np.testing.assert_allclose(found, y.detach(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dx, leaf.grad, rtol=1e-12, atol=1e-14)


def test_against_jax() -> None:
    jax = pytest.importorskip("jax")
    x, dy = normal(5, 12, dtype=np.float32), normal(5, 6, dtype=np.float32, seed=1)
    y, pullback = jax.vjp(jax.nn.glu, x)
    found, dx = fa.glu.forward_backward(x, dy)
    np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx, pullback(dy)[0], rtol=1e-5, atol=1e-6)


def test_special_values() -> None:
    inf, nan = np.inf, np.nan
    gate = np.array([inf, -inf, nan, 0.0, -0.0, 2.0**-1060, 1.0])
    value = np.array([1.0, 1.0, 1.0, nan, 2.0, 2.0, inf])
    with np.errstate(all="raise"):
        y = fa.swiglu(gate, value)
    np.testing.assert_array_equal(y, [inf, -0.0, nan, nan, -0.0, 2.0**-1060, inf])
    assert np.signbit(y[[1, 4]]).all()


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0), (3, 0, 2), (1, 2)])
@pytest.mark.parametrize("interleaved", [False, True])
def test_empty_and_small(shape: tuple[int, ...], interleaved: bool) -> None:
    x = normal(*shape)
    axis = 1 if len(shape) > 1 else 0
    first, second = split(x, axis, interleaved)
    y = fa.bilinear(x, axis=axis, interleaved=interleaved)
    np.testing.assert_array_equal(y, first * second)


@pytest.mark.parametrize("interleaved", [False, True])
def test_long_rows_in_one_dimension(interleaved: bool) -> None:
    """They are cut into rows, and the rest; threads share them."""
    x = normal(300_006, dtype=np.float32)
    first, second = split(x, 0, interleaved)
    y, dx = fa.bilinear.forward_backward(x, first, interleaved=interleaved)
    dfirst, dsecond = split(dx, 0, interleaved)
    np.testing.assert_array_equal(y, first * second)
    np.testing.assert_array_equal(dfirst, first * second)
    np.testing.assert_array_equal(dsecond, first * first)


def test_same_bits_for_any_number_of_threads() -> None:
    x, dy = normal(300, 2 * 1001, dtype=np.float32), normal(300, 1001, dtype=np.float32)
    before = fa.get_num_threads()
    try:
        results = []
        for threads in (1, 2) * 5:
            fa.set_num_threads(threads)
            results.append([r.tobytes() for r in fa.swiglu.forward_backward(x, dy)])
    finally:
        fa.set_num_threads(before)
    assert all(result == results[0] for result in results)


def test_out_and_overlap() -> None:
    x, dy = normal(6, 8), normal(6, 4, seed=1)
    y, dx = fa.glu.forward_backward(x, dy)
    own_y, own_dx = np.empty((4, 6)).T, np.empty((12, 8))[::2]
    results = fa.glu.forward_backward(x, dy, out=(own_y, own_dx))
    assert results[0] is own_y
    assert results[1] is own_dx
    np.testing.assert_array_equal(own_y, y)
    np.testing.assert_array_equal(own_dx, dx)
    over = x.copy()
    assert fa.glu.backward(dy, over, out=over) is over
    np.testing.assert_array_equal(over, dx)
    over = x.copy()
    fa.glu(over, out=over[:, 1:5])
    np.testing.assert_array_equal(over[:, 1:5], y)
    first, second = x[:, :4].copy(), x[:, 4:].copy()
    dfirst, dsecond = np.empty_like(first), np.empty_like(second)
    results = fa.glu.backward(dy, first, second, out=(dfirst, dsecond))
    assert results[0] is dfirst
    np.testing.assert_array_equal(dfirst, dx[:, :4])
    np.testing.assert_array_equal(dsecond, dx[:, 4:])


def test_memory() -> None:
    """forward_backward takes its outputs and at most a MiB for each thread."""
    output = assert_clean(
        run_python(
            """
            import importlib.metadata  # by which threads find TBB
            import tracemalloc
            import numpy as np
            import fastact as fa
            x, dy = np.ones((1024, 4096), "f"), np.ones((1024, 2048), "f")
            small = np.ones((2, 4), "f"), np.ones((2, 2), "f")
            fa.swiglu.forward_backward(*small)
            fa.set_output_cache(max_bytes=0)  # whose blocks tracemalloc does not see
            tracemalloc.start()
            y, dx = fa.swiglu.forward_backward(x, dy)
            print(tracemalloc.get_traced_memory()[1] - y.nbytes - dx.nbytes)
            """
        )
    )
    assert 0 <= int(output) <= 2**20


@every_unit
def test_lookup(name: str) -> None:
    unit = getattr(fa, name)
    assert fa.get(name) is unit
    assert name in dir(fa)
    assert pickle.loads(pickle.dumps(unit)) is unit
    assert name in repr(unit)
    assert "References" in unit.__doc__
    for ufunc in unit.ufuncs.values():
        assert isinstance(ufunc, np.ufunc)
        assert pickle.loads(pickle.dumps(ufunc)) is ufunc
        assert getattr(fastact.ufuncs, ufunc.__name__) is ufunc
    with pytest.raises(TypeError, match="unknown parameter 'beta'"):
        fa.get(name, beta=2)


X = np.ones((2, 4))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: fa.glu(np.ones((2, 5))), ValueError, ["even", "axis 1", "(2, 5)"]),
        (lambda: fa.glu(np.ones(())), ValueError, ["axis", "0 dimensions"]),
        (lambda: fa.glu(X, axis=2), ValueError, ["axis 2"]),
        (lambda: fa.glu(X, axis=0.5), TypeError, ["axis", "0.5"]),
        (lambda: fa.glu(X, gate="left"), ValueError, ["gate", "left", "first", "second"]),
        (lambda: fa.glu(X * 1j), TypeError, ["x", "complex128"]),
        (lambda: fa.glu(X, X * 1j), TypeError, ["second", "complex128"]),
        (lambda: fa.glu(X, np.ones(3)), ValueError, ["(2, 4)", "(3,)"]),
        (lambda: fa.glu.backward(X, X), ValueError, ["dy", "(2, 4)", "(2, 2)"]),
        (lambda: fa.glu(X, out=X), ValueError, ["out", "(2, 4)", "(2, 2)"]),
        (lambda: fa.glu(X, out=[1]), TypeError, ["out", "list"]),
        (lambda: fa.glu(X, X, out=[1]), TypeError, ["out", "list"]),
        (lambda: fa.glu.backward(X, X, X, out=(X,)), ValueError, ["out", "2 entries"]),
        (lambda: fa.glu.forward_backward(X), TypeError, ["missing", "second"]),
    ],
)
def test_wrong_calls(call: Callable[[], Any], kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        call()
    for word in ("glu", *words):
        assert word in str(caught.value)
