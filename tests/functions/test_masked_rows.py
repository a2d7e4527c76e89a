"""Masks, causal calls and scale of row functions against float64 references, PyTorch and finite differences."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fresh_process import run_python
from representatives import only_long, with_long

import fastact as fa

Array = np.ndarray[Any, Any]
HALF_TYPES = only_long("float16", "bfloat16")
# Of each algorithm one: the others differ in what they do with a row's sum or root.
BY_DEFAULT = ("softmax", "log_softmax", "logsumexp", "sparsemax", "hardmax")
# About the widths of short and long blocks, and one longer than what is kept between passes.
LENGTHS = [1, 7, 16, 17, 33, 64, 65, 130, 1001, 70_001]


def dtype_of(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        name = pytest.importorskip("ml_dtypes").bfloat16
    return np.dtype(name)


def numbers(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> tuple[Array, Array]:
    x, dy = np.random.default_rng(seed).standard_normal((2, *shape))
    return (3 * x).astype(dtype), dy.astype(dtype)


def masks(shape: tuple[int, ...], seed: int = 0) -> Array:
    """Return a mask of half the elements, of which one row has none."""
    mask: Array = np.random.default_rng(seed).random(shape) < 0.5
    mask[..., 0, :] = False
    return mask


def triangle(rows: int, length: int) -> Array:
    """Return the mask of causal calls: the last row sees all."""
    return np.arange(length) <= np.arange(rows)[:, None] + length - rows


def expected(name: str, x: Array, dy: Array, mask: Array) -> tuple[Array, Array]:
    """Return value and gradient in float64, row by row, of nothing but the elements that take part."""
    y, dx = np.zeros((2, *x.shape))
    if name == "log_softmax":
        y[...] = -np.inf
    for row in np.ndindex(x.shape[:-1]):
        chosen, sign = mask[row], -1 if name == "softmin" else 1
        if not chosen.any():
            continue
        z, g = sign * x[row][chosen].astype(float), dy[row][chosen].astype(float)
        e = np.exp(z - z.max())
        share = e / e.sum()
        if name == "log_softmax":
            y[row][chosen] = z - z.max() - np.log(e.sum())
            dx[row][chosen] = g - share * g.sum()
        else:
            y[row][chosen] = share
            dx[row][chosen] = sign * share * (g - share @ g)
    return y, dx


def assert_near(found: tuple[Array, ...], wanted: tuple[Array, ...]) -> None:
    for one, other in zip(found, wanted, strict=True):
        unit = float(np.finfo(one.dtype).eps) if one.dtype.kind == "f" else 2.0**-7
        scale = np.abs(np.where(np.isfinite(other), other, 0)).max(initial=1)
        np.testing.assert_allclose(one.astype(float), other, rtol=8 * unit, atol=8 * unit * scale)


@pytest.mark.parametrize("dtype", ["float32", "float64", *HALF_TYPES])
@pytest.mark.parametrize("length", LENGTHS)
def test_where_and_causal(dtype: str, length: int) -> None:
    """What is masked is as if it were not there, whatever it holds; nothing takes part in the first row."""
    shape = (9, length) if length < 1000 else (3, length)
    x, dy = numbers(shape, dtype_of(dtype), length)
    for mask, options in (
        (masks(shape, length), {"where": masks(shape, length)}),
        (triangle(*shape), {"causal": True}),
        (
            triangle(*shape) & masks(shape, length),
            {"causal": True, "where": masks(shape, length)},
        ),
    ):
        x[~mask], dy[~mask] = np.resize([np.nan, np.inf, -np.inf], (2, np.sum(~mask)))
        wanted = expected("softmax", x, dy, mask)
        y, dx = fa.softmax.forward_backward(x, dy, **options)
        assert y.dtype == dx.dtype == x.dtype
        assert_near((y, dx), wanted)
        assert not y[~mask].astype(bool).any()
        assert not dx[~mask].astype(bool).any()
        np.testing.assert_array_equal(fa.softmax(x, **options), y)
        assert_near((fa.softmax.backward(dy, y, **options),), wanted[1:])
        x[~mask], dy[~mask] = 1, 1


@pytest.mark.parametrize("name", ["log_softmax", *only_long("softmin")])
@pytest.mark.parametrize("shape", [(9, 9), (5, 100), (100, 70)])
def test_others_of_exponentials(name: str, shape: tuple[int, ...]) -> None:
    x, dy = numbers(shape, np.float64)
    f, mask = getattr(fa, name), triangle(*shape)
    x[~mask] = np.nan
    wanted = expected(name, x, dy, mask)
    y, dx = f.forward_backward(x, dy, causal=True)
    np.testing.assert_allclose(y, wanted[0], rtol=1e-13)
    np.testing.assert_allclose(dx, wanted[1], rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(f.backward(dy, y, causal=True), wanted[1], rtol=1e-9, atol=1e-14)
    np.testing.assert_array_equal(f(x, where=mask), y)


@pytest.mark.parametrize("name", ["logsumexp", *only_long("logmeanexp")])
@pytest.mark.parametrize("shape", [(9, 9), (5, 100), (100, 70)])
def test_reductions(name: str, shape: tuple[int, ...]) -> None:
    x, f = numbers(shape, np.float64)[0], getattr(fa, name)
    mask = triangle(*shape)
    y, dx = f.forward_backward(x, 1.0, causal=True)
    shares = expected("softmax", x, x, mask)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        sums = np.log(np.sum(np.where(mask, np.exp(x), 0), axis=-1))
        sums -= np.log(mask.sum(axis=-1)) if name == "logmeanexp" else 0
    np.testing.assert_allclose(y, sums, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dx, shares, rtol=1e-12, atol=1e-300)
    np.testing.assert_array_equal(f.backward(1.0, x, causal=True), dx)
    ones = np.ones(x.shape[:-1])
    for _ in range(3):  # by the plan of the first
        np.testing.assert_array_equal(f.backward(ones, x, causal=True), dx)


@pytest.mark.parametrize("name", ["sparsemax", "hardmax", *only_long("entmax15")])
def test_causal_of_other_rows(name: str) -> None:
    """Each row is as if it were alone and shorter."""
    f, (x, dy) = getattr(fa, name), numbers((20, 20), np.float64)
    y, dx = f.forward_backward(x, dy, causal=True)
    for row in range(20):
        seen = slice(row + 1)
        alone = f.forward_backward(x[row, seen], dy[row, seen])
        np.testing.assert_allclose(y[row, seen], alone[0], rtol=1e-12)
        np.testing.assert_allclose(dx[row, seen], alone[1], rtol=1e-12, atol=1e-15)
        assert not y[row, row + 1 :].any()
        assert not dx[row, row + 1 :].any()


def test_hard_samples_see_nothing_later() -> None:
    y = fa.gumbel_softmax(np.zeros((30, 30)), rng=0, hard=True, causal=True)
    np.testing.assert_array_equal(y.sum(-1), 1)
    assert not y[~triangle(30, 30)].any()


@pytest.mark.parametrize("name", with_long(fa.names("row"), BY_DEFAULT))
def test_same_bits_as_neutral_elements(name: str) -> None:
    """A mask gives the bits that elements without a share in the row give."""
    f = getattr(fa, name)
    options = {"rng": 0} if name == "gumbel_softmax" else {}
    x, mask = numbers((6, 70), np.float64)[0], masks((6, 70))
    neutral = np.where(mask, x, np.inf if name == "softmin" else -np.inf)
    found, wanted = f(x, where=mask, **options)[1:], f(neutral, **options)[1:]
    if name == "logmeanexp":  # a mean of fewer
        wanted += np.log(70 / mask[1:].sum(-1))
        np.testing.assert_allclose(found, wanted, rtol=1e-13)
    else:
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), None])
def test_broadcast_masks(axis: Any) -> None:
    """In calls that repeat an earlier one with another mask as well."""
    x, dy = numbers((3, 5, 40), np.float32)
    random = np.random.default_rng(0)
    for shape in ((3, 5, 40), (5, 40), (40,), (3, 1, 1), (5, 1), (1, 1, 40), ()):
        for _ in range(3):
            mask = np.asarray(random.random(shape) < 0.5)
            full = np.broadcast_to(mask, x.shape).copy()
            found = fa.softmax.forward_backward(x, dy, axis=axis, where=mask)
            for layout in (full[:, ::-1].copy()[:, ::-1], np.asfortranarray(full)):
                again = fa.softmax.forward_backward(x, dy, axis=axis, where=layout)
                np.testing.assert_array_equal(found, again)
            axes = tuple(range(3)) if axis is None else axis
            e = np.where(full, np.exp(x.astype(float)), 0)
            total = e.sum(axes, keepdims=True)
            np.testing.assert_allclose(
                found[0], e / np.where(total == 0, 1, total), rtol=1e-6, atol=1e-9
            )


@pytest.mark.parametrize("step", [1, 2, -1])
def test_layouts_and_outputs(step: int) -> None:
    """Strided arrays, and outputs in place of inputs, give the bits of others."""
    x, dy = numbers((6, 66), np.float32)
    mask = masks((6, 66))
    for options in ({"where": mask}, {"causal": True}):
        wanted = fa.softmax.forward_backward(x, dy, **options)
        memory = np.empty((3, 6, 132), np.float32)
        view = memory[:, :, : 66 * abs(step) : abs(step)][:, :, :: 1 if step > 0 else -1]
        view[0], view[1] = x, dy
        out = fa.softmax.forward_backward(view[0], view[1], out=(view[1], view[0]), **options)
        np.testing.assert_array_equal(out, wanted)
        view[0] = x
        np.testing.assert_array_equal(fa.softmax(view[0], out=view[0], **options), wanted[0])
        memory[0, :, :66] = x
        shifted = memory[0].reshape(-1)[1 : 6 * 132 + 1]
        assert np.shares_memory(shifted, memory[0])
        later = memory[0, :, 1:67]
        np.testing.assert_array_equal(
            fa.softmax(memory[0, :, :66], out=later, **options), wanted[0]
        )
    own = np.zeros((6, 66, 4), bool)
    own[..., 0] = mask
    result = own.view(np.float32)[..., 0]
    np.testing.assert_array_equal(
        fa.softmax(x, where=own[..., 0], out=result), fa.softmax(x, where=mask)
    )


def test_same_bits_with_any_number_of_threads() -> None:
    x, dy = numbers((900, 333), np.float32)
    mask, before, results = masks(x.shape), fa.get_num_threads(), set()
    try:
        for threads, options in itertools.product({1, before}, ({}, {"causal": True})):
            fa.set_num_threads(threads)
            for _ in range(3):
                y, dx = fa.softmax.forward_backward(x, dy, where=mask, **options)
                results.add((len(options), y.tobytes(), dx.tobytes()))
    finally:
        fa.set_num_threads(before)
    assert len(results) == 2


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_gradient_later(name: str) -> None:
    (x, dy), mask = numbers((9, 9), np.float64), masks((9, 9)) & triangle(9, 9)
    y, vjp = getattr(fa, name).vjp(x, where=masks((9, 9)), causal=True)
    wanted = expected(name, x, np.where(mask, dy, 0), mask)
    np.testing.assert_allclose(y, wanted[0], rtol=1e-13)
    np.testing.assert_allclose(vjp(np.where(mask, dy, 0)), wanted[1], rtol=1e-9, atol=1e-14)


def test_empty_rows() -> None:
    for shape in ((0, 3), (3, 0), (0, 0)):
        y = fa.softmax(np.zeros(shape), causal=True, where=np.ones(shape, bool))
        assert y.shape == shape
    assert (fa.logsumexp(np.zeros((3, 0)), causal=True) == -np.inf).all()
    assert np.isnan(fa.logmeanexp(np.zeros((3, 2)), where=False)).all()
    assert (fa.logsumexp(np.zeros((3, 2)), where=False) == -np.inf).all()


def test_nan_stays_in_its_row() -> None:
    x = np.zeros((4, 5))
    x[1, 2] = np.nan
    y = fa.softmax(x, where=[True, True, True, False, True])
    assert np.isnan(y[1, [0, 1, 2, 4]]).all()
    assert y[1, 3] == 0
    assert np.isfinite(y[[0, 2, 3]]).all()


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_finite_differences(name: str) -> None:
    (x, dy), f, step = numbers((4, 6), np.float64), getattr(fa, name), 1e-6
    mask = np.random.default_rng(1).random((4, 6)) < 0.7
    taken = mask & triangle(4, 6)
    dy[~taken] = 0
    options: dict[str, Any] = {"where": mask, "causal": True, "scale": 0.3}
    _, dx = f.forward_backward(x, dy, **options)
    for place in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[place] = step
        change = np.subtract(
            f(x + moved, **options), f(x - moved, **options), where=taken, out=np.zeros_like(x)
        )
        assert abs(dx[place] - (change * dy).sum() / (2 * step)) < 1e-8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [0.125, 0.1, 3.7, 64**-0.5])
def test_scale(dtype: Any, scale: float) -> None:
    """To a rounding of the product, and no worse where the numbers are large but near each other."""
    x, dy = numbers((4, 100), dtype)
    unit = np.finfo(dtype).eps
    for offset in (0, 1024):
        wide = (x + dtype(offset)).astype(np.longdouble) * np.longdouble(scale)
        e = np.exp(wide - wide.max(-1, keepdims=True))
        shares = e / e.sum(-1, keepdims=True)
        reach = np.ptp(wide.astype(float)) + 4
        y, dx = fa.softmax.forward_backward(x + dtype(offset), dy, scale=scale)
        np.testing.assert_allclose(y, shares.astype(float), rtol=float(reach * unit))
        wanted = scale * shares * (dy - (shares * dy).sum(-1, keepdims=True))
        np.testing.assert_allclose(dx, wanted.astype(float), atol=float(4 * reach * unit * scale))
        again = fa.softmax.backward(dy, y, scale=scale)
        np.testing.assert_allclose(again, dx, atol=float(8 * unit * scale))
    bound = fa.softmax.bind(temperature=7.0)
    np.testing.assert_array_equal(bound(x, scale=0.5), fa.softmax(x, temperature=2.0))


X = np.ones((3, 4))
WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: fa.softmax(X, scale=0), ValueError, "softmax: scale must be a positive number"),
    (lambda: fa.softmax(X, scale=-1.0), ValueError, "scale must be a positive number, got -1.0"),
    (lambda: fa.softmax(X, scale=np.nan), ValueError, "scale must be a positive number"),
    (lambda: fa.softmax(X, scale=[1, 2]), ValueError, "scale must be a positive number"),
    (lambda: fa.softmax(X, scale=1e-320), ValueError, "temperature must be from"),
    (lambda: fa.softmax(X, scale=1, temperature=1), ValueError, "exclude each other"),
    (lambda: fa.softmax(X, causal=True, axis=0), ValueError, "causal needs two axes"),
    (lambda: fa.softmax(X, causal=True, axis=None), ValueError, "causal needs two axes"),
    (lambda: fa.softmax(X[0], causal=True), ValueError, "causal needs two axes"),
    (lambda: fa.softmax(X, causal=True, lengths=[4]), ValueError, "causal and lengths exclude"),
]


@pytest.mark.parametrize(("call", "kind", "said"), WRONG)
def test_wrong_calls(call: Callable[[], Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as raised:
        call()
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_upper_triangle_is_not_read() -> None:
    """What each row sees ends where a page begins that may not be touched."""
    done = run_python(
        """
        import ctypes, mmap
        import numpy as np
        import fastact as fa
        page, rows = mmap.PAGESIZE, 150
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

        def guarded(step):
            memory = mmap.mmap(-1, (2 * rows + 2) * page)
            start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            first, stride = page - 4, 2 * page - 4 * step
            array = np.ndarray((rows, rows), np.float32, memory, first, (stride, 4 * step))
            for row in range(rows):
                array[row, : row + 1] = np.cos(np.arange(row + 1) * (row + 1))
                assert protect(start + (2 * row + 1) * page, page, 0) == 0
            return array

        for step in (1, 2):
            x, dy = guarded(step), guarded(step)
            plain = np.zeros((rows, rows), np.float32)
            for row in range(rows):
                plain[row, : row + 1] = x[row, : row + 1]
            wanted = fa.softmax.forward_backward(plain, plain, where=np.tri(rows, dtype=bool))
            out = np.empty_like(plain), np.empty_like(plain)
            fa.softmax.forward_backward(x, dy, causal=True, out=out)
            np.testing.assert_array_equal(out, wanted)
            np.testing.assert_array_equal(fa.softmax(x, causal=True), wanted[0])
            assert fa.logsumexp(x, causal=True).shape == (rows,)
            fa.softmax.backward(dy, x, causal=True)
        """
    )
    assert done.returncode == 0, done.stderr


def test_other_calls_do_without_masked_kernels() -> None:
    done = run_python(
        """
        import numpy as np
        import fastact as fa
        x = np.ones((3, 4))
        fa.softmax.forward_backward(x, x, scale=2.0)
        assert list(fa.softmax.kernels) == ["forward_backward"], list(fa.softmax.kernels)
        """
    )
    assert done.returncode == 0, done.stderr


def test_pytorch() -> None:
    """In a process of its own: it brings threads that a later fork would not survive."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    done = run_python(
        """
        import numpy as np, torch
        import fastact as fa
        x, dy = np.random.default_rng(0).standard_normal((2, 4, 3, 30, 30)).astype(np.float32)
        seen = np.random.default_rng(1).random(x.shape[-2:]) < 0.6
        seen[:, 0] = True
        for mask, options in ((seen, dict(where=seen)), (np.tri(30, dtype=bool), dict(causal=True))):
            for name in ("softmax", "log_softmax"):
                dy = np.where(mask, dy, 0)
                t = torch.from_numpy(x).requires_grad_()
                scores = (0.3 * t).masked_fill(torch.from_numpy(~mask), -torch.inf)
                y = getattr(torch, name)(scores, -1)
                (dx,) = torch.autograd.grad(y, t, torch.from_numpy(dy))
                ours = getattr(fa, name).forward_backward(x, dy, scale=0.3, **options)
                for our, their in zip(ours, (y.detach(), dx)):
                    np.testing.assert_allclose(our, their.numpy(), rtol=3e-6, atol=3e-6)
        q, k, v = (torch.from_numpy(each) for each in (x, dy, np.tile(np.eye(30, dtype="f"), (4, 3, 1, 1))))
        theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        scores = (q @ k.transpose(-1, -2)).numpy()
        ours = fa.softmax(scores, scale=30**-0.5, causal=True)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-6)
        """
    )
    assert done.returncode == 0, done.stderr
