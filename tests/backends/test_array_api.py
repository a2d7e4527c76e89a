"""Arrays of other libraries on the CPU: in without a copy, back as their own kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from array_cases import Case, check

import fastact as fa
import fastact.backends.array_api as fx


class Library:
    """What the tests need of a library."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.module = pytest.importorskip("jax.numpy" if name == "jax" else name)
        self.kind = type(self.make(np.ones(2, np.float32)))

    def make(self, values: Any) -> Any:
        """Return values as one of its arrays."""
        copy = np.array(values)
        return self.module.from_dlpack(copy) if self.name == "torch" else self.module.asarray(copy)

    def plain(self, array: Any) -> Any:
        """Return one of its arrays as one of NumPy's."""
        assert isinstance(array, self.kind)
        return np.from_dlpack(array)


@pytest.fixture(params=["torch", "jax", "array_api_strict"])
def library(request: pytest.FixtureRequest) -> Library:
    return Library(request.param)


class Tensor:
    """An array of a library of the tests, of which the standard's least is there."""

    def __init__(self, array: Any, device: int = 1) -> None:
        self.array, self.device, self._kind = array, "cpu" if device == 1 else "gpu", device
        self.dtype = array.dtype

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._kind, 0

    def __array_namespace__(self) -> Any:
        return Tensor

    @staticmethod
    def from_dlpack(array: Any) -> Tensor:
        """Return an array that shares its memory."""
        return Tensor(np.from_dlpack(array))


def as_tensor_array(tensor: Any) -> Any:
    assert isinstance(tensor, Tensor)
    return tensor.array


def test_every_operation(case: Case) -> None:
    check(case, getattr(fx, case.name), Tensor, as_tensor_array)
    check(case, fa.get(case.name), Tensor, as_tensor_array)


def test_real_libraries(library: Library) -> None:
    x, dy = np.random.default_rng(0).standard_normal((2, 6, 8)).astype(np.float32)
    x64 = x.astype(float)
    own = library.make(x)
    e = np.exp(x64 - x64.max(0))
    np.testing.assert_allclose(library.plain(fa.softmax(own, axis=0)), e / e.sum(0), rtol=1e-5)
    np.testing.assert_allclose(
        library.plain(fa.logsumexp(own)), np.log(np.exp(x64).sum(1)), rtol=1e-5
    )
    y, dx = map(library.plain, fa.squared_relu.forward_backward(own, library.make(dy)))
    np.testing.assert_allclose(y, np.maximum(x64, 0) ** 2, rtol=1e-6)
    np.testing.assert_allclose(dx, 2 * np.maximum(x64, 0) * dy, rtol=1e-6)
    loss, vjp = fa.mse.vjp(own, dy)
    np.testing.assert_allclose(library.plain(loss), np.mean((x64 - dy) ** 2), rtol=1e-6)
    np.testing.assert_allclose(library.plain(vjp(2.0)), 4 * (x64 - dy) / x.size, rtol=1e-5)


def test_nothing_is_copied(library: Library) -> None:
    given = library.make(np.ones((1000, 1000), np.float32))
    seen = fx.as_ndarray("f", "x", given)
    y, vjp = fa.gelu.vjp(given, save="input")
    assert vjp.args[-1].saved[0].ctypes.data == seen.ctypes.data
    result = np.zeros((1000, 1000), np.float32)
    if result.ctypes.data % 64 == 0 or library.name != "jax":  # JAX copies what is not aligned so
        own = fx.as_own(result, given)
        assert np.from_dlpack(own).ctypes.data == result.ctypes.data
    assert isinstance(y, library.kind)


def test_torch_sees_the_memory_of_results_and_outputs() -> None:
    torch = pytest.importorskip("torch")
    x, out = torch.randn(1000), torch.empty(1000)
    assert fa.relu(x, out=out) is out
    assert torch.equal(out, torch.relu(x))
    assert fx.as_ndarray("f", "x", x).ctypes.data == x.data_ptr()
    out, other = torch.empty(1000), torch.empty(1000)
    y, d = fa.relu.value_and_derivative(x, out=(out, other))
    assert y is out
    assert d is other
    y += 1  # the memory is the tensor's own
    assert torch.equal(y, torch.relu(x) + 1)
    transposed = torch.randn(20, 30).T
    assert torch.equal(fa.relu(transposed), torch.relu(transposed))


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_bfloat16(name: str) -> None:
    pytest.importorskip("ml_dtypes")
    library = Library(name)
    x = library.make(np.linspace(-3, 3, 50, dtype=np.float32))
    half = x.bfloat16() if name == "torch" else x.astype(library.module.bfloat16)
    y = fa.relu(half)
    assert y.dtype == half.dtype
    back = y.float() if name == "torch" else y.astype(np.float32)
    rounded = half.float() if name == "torch" else half.astype(np.float32)
    np.testing.assert_array_equal(library.plain(back), np.maximum(library.plain(rounded), 0))


def test_read_only_arrays_are_inputs_only() -> None:
    library = Library("jax")
    x = library.make(np.ones(5, np.float32))
    with pytest.raises(ValueError, match="read-only"):
        fa.gelu(x, out=x)


def test_what_cannot_be_shared_is_refused_in_one_line() -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    for x, text in (
        (torch.ones(3, requires_grad=True), r"torch Parameter|torch Tensor that .*requires? grad"),
        (torch.ones(3, device="meta"), "meta"),
        (torch.ones(3).to_sparse(), "strided"),
        (torch.ones(3, dtype=torch.complex64), "complex64"),
        (Tensor(np.ones(3), device=2), "it is on gpu, not on the CPU"),
    ):
        for call in (fa.gelu, fa.softmax, fx.gelu, lambda x: fx.gelu(np.ones(3), bias=x)):
            with pytest.raises(TypeError, match=text) as raised:
                call(x)
            assert "\n" not in str(raised.value)
    with pytest.raises(TypeError, match="has no elements yet"):
        jax.jit(fa.gelu)(jax.numpy.ones(3))


def test_0d_empty_and_mixed() -> None:
    for x in (np.float32(2), np.zeros((0, 3), np.float32), np.ones((2, 3))[::-1, ::-1]):
        found = fa.gelu(Tensor(np.asarray(x)))
        np.testing.assert_array_equal(found.array, fa.gelu(x))
        assert isinstance(found.array, np.ndarray)
    y = fx.gelu.backward(np.ones(3), Tensor(np.ones(3)))
    np.testing.assert_array_equal(as_tensor_array(y), fa.gelu.backward(np.ones(3), np.ones(3)))
    assert isinstance(fx.gelu(np.ones(3)), np.ndarray)


def test_a_device_of_the_librarys_own() -> None:
    xp = pytest.importorskip("array_api_strict")
    x = xp.ones(3, device=xp.Device("device1"))
    assert fa.relu(x).device == x.device


def test_own_activations_and_bound_functions() -> None:
    import own_activations

    x = np.linspace(-2, 2, 9)
    for f in (own_activations.swishy, fa.get("elu", alpha=0.5)):
        np.testing.assert_array_equal(as_tensor_array(f(Tensor(x))), f(x))
        np.testing.assert_array_equal(
            as_tensor_array(fx.wrap(f).derivative(Tensor(x))), f.derivative(x)
        )
