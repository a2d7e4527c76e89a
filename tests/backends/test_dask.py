"""dask arrays: the same as on whole arrays, lazily, in one pass over each chunk, on all schedulers."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np
import pytest

import fastact as fa

pytest.importorskip("dask.array")

import dask
import dask.array as da
import own_activations
from array_cases import Case, check
from fresh_process import assert_clean, run_python

import fastact.backends.dask as fd
from fastact.backends import _chunks


def numbers(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def lazy(array: Any, rows: int = 4, columns: int = 3) -> Any:
    return da.from_array(array, chunks=(rows, columns)[: array.ndim])


def computed(array: Any) -> Any:
    assert isinstance(array, da.Array)
    found = np.asarray(array.compute(scheduler="synchronous"))
    assert (array.dtype, array.shape) == (found.dtype, found.shape)
    return found


def test_chunks_give_what_the_whole_gives(case: Case) -> None:
    if case.draws:
        pytest.skip("chunks draw numbers of their own")
    check(case, getattr(fd, case.name), lazy, computed)


def test_against_formulas() -> None:
    x, bias, labels = numbers(50, 20), numbers(20, seed=1), np.arange(50) % 20
    x64, lazy_x = x.astype(float), lazy(x, 7, 6)
    s = 1 / (1 + np.exp(-(x64 + bias)))
    y, dx, dbias = fd.silu.forward_backward(lazy_x, lazy_x, bias=lazy(bias, 6))
    slope = x64 * (s + (x64 + bias) * s * (1 - s))
    np.testing.assert_allclose(computed(y), (x64 + bias) * s, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(computed(dx), slope, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(computed(dbias), slope.sum(0), rtol=1e-5, atol=1e-5)
    p = np.exp(x64) / np.exp(x64).sum(1, keepdims=True)
    np.testing.assert_allclose(computed(fd.softmax(lazy_x)), p, rtol=1e-5)
    np.testing.assert_allclose(
        computed(fd.logsumexp(lazy_x, axis=0)), np.log(np.exp(x64).sum(0)), rtol=1e-5
    )
    loss, dlogits = fd.softmax_cross_entropy.forward_backward(lazy_x, labels)
    losses = -np.log(p[np.arange(50), labels])
    np.testing.assert_allclose(computed(loss), losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(computed(dlogits), (p - np.eye(20)[labels]) / 50, atol=1e-7)


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 1), None])
def test_rows_of_any_axis(axis: Any) -> None:
    x = numbers(9, 8)
    for name in ("softmax", "logsumexp"):
        y = getattr(fd, name)(lazy(x), axis=axis)
        np.testing.assert_allclose(computed(y), getattr(fa, name)(x, axis=axis), rtol=1e-5)
    assert computed(fd.logsumexp(lazy(x), axis=axis, keepdims=True)).ndim == 2


def test_only_the_rows_axis_becomes_one_chunk() -> None:
    x = da.ones((1000, 64), chunks=(100, 16))
    y = fd.softmax(x)
    assert y.chunksize[1] == 64
    assert y.chunksize[0] <= 25  # no chunk takes more memory than before
    assert fd.gelu(x).chunks == x.chunks


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_of_weighted_and_ignored_rows(reduction: str) -> None:
    x, weight = numbers(21, 5), np.abs(numbers(5, seed=1))
    labels = np.random.default_rng(0).integers(0, 5, 21)
    labels[:6] = -100  # the whole first chunk
    for options in ({}, {"weight": weight}, {"weight": weight, "label_smoothing": 0.1}):
        options = {**options, "reduction": reduction}
        found = fd.softmax_cross_entropy.forward_backward(lazy(x), lazy(labels), **options)
        expected = fa.softmax_cross_entropy.forward_backward(x, labels, **options)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(computed(one), other, rtol=1e-5, atol=1e-7)
    targets, element_weights = numbers(21, 5, seed=2), np.abs(numbers(21, 1, seed=3))
    for name in ("mse", "huber", "sigmoid_binary_cross_entropy"):
        given = {"weight": element_weights, "reduction": reduction}
        found = getattr(fd, name)(lazy(x), lazy(targets), **given)
        expected = getattr(fa, name)(x, targets, **given)
        np.testing.assert_allclose(computed(found), expected, rtol=1e-5, atol=1e-6)


def test_a_mean_in_half_precision_does_not_overflow() -> None:
    x = np.full((3000, 3), 100, np.float16)
    loss, vjp = fd.mse.vjp(lazy(x, 1000), np.zeros_like(x))
    assert computed(loss) == np.float16(10_000)
    np.testing.assert_allclose(computed(vjp()), np.full_like(x, 2 * 100 / x.size), rtol=2e-3)


def test_one_pass_over_each_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    run = _chunks._Run.__call__
    monkeypatch.setattr(_chunks._Run, "__call__", lambda *a: calls.append(1) or run(*a))
    x = da.ones((40, 30), chunks=10)
    y, dx = fd.gelu.forward_backward(x, x)
    value, vjp = fd.gelu.vjp(x)
    calls.clear()
    for wanted in ((y, dx), (y.sum(), dx.sum()), ((y + dx).sum(),), (y,), (value, vjp(x))):
        dask.compute(*wanted, scheduler="synchronous")
        assert len(calls) == 12
        calls.clear()


def test_dtypes_and_layouts() -> None:
    x = numbers(12, 10)
    for dtype in (np.float16, np.float64, np.int16, bool):
        array = x.astype(dtype)
        assert fd.gelu(lazy(array)).dtype == fa.gelu(array).dtype
        np.testing.assert_array_equal(computed(fd.gelu(lazy(array))), fa.gelu(array))
    for array in (x[::-2, ::-1], np.asfortranarray(x), x[:0], np.ma.filled(np.ma.array(x)), x.T):
        np.testing.assert_array_equal(computed(fd.gelu(da.from_array(array))), fa.gelu(array))
    frozen = x.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(computed(fd.gelu(lazy(frozen))), fa.gelu(x))
    zero = da.from_array(np.float32(2))
    np.testing.assert_array_equal(computed(fd.gelu(zero)), fa.gelu(np.float32(2)))
    x[3, 4] = np.nan
    assert np.isnan(computed(fd.softmax(lazy(x)))).sum() == 10


def test_chunks_of_unknown_length() -> None:
    x = da.from_array(numbers(100), chunks=30)
    positive = x[x > 0]
    found = fd.gelu(positive).compute(scheduler="synchronous")
    np.testing.assert_array_equal(found, fa.gelu(positive.compute(scheduler="synchronous")))


def test_masks_differ_between_chunks_and_repeat_with_the_seed() -> None:
    x = da.ones((400, 400), chunks=100)
    y = fd.dropout(x, 0.3, rng=5).compute(scheduler="threads")
    np.testing.assert_array_equal(y, fd.dropout(x, 0.3, rng=5).compute(scheduler="synchronous"))
    assert abs((y == 0).mean() - 0.3) < 0.01
    blocks = y.reshape(4, 100, 4, 100).swapaxes(1, 2).reshape(16, -1)
    assert len(np.unique(blocks, axis=0)) == 16
    assert (y != fd.dropout(x, 0.3, rng=6).compute()).any()
    np.testing.assert_array_equal(fd.dropout.backward(x, 0.3, rng=5).compute(), y)
    value, vjp = fd.gelu.vjp(x, dropout=0.3, rng=np.random.default_rng(0))
    value, dx = dask.compute(value, vjp(x))
    np.testing.assert_array_equal(value == 0, dx == 0)


def test_errors_are_one_line_and_come_at_once() -> None:
    x = lazy(numbers(6, 5))
    for call, text in (
        (lambda: fd.gelu(x, out=x), "immutable"),
        (lambda: fd.softmax(x, axis=2), "out of bounds"),
        (lambda: fd.softmax(x, axes=1), "did you mean 'axis'"),
        (lambda: fd.dropout(x, 0.5), "rng"),
        (lambda: fd.mse(x, x, reduction="most"), "reduction"),
        (lambda: fd.gelu.vjp(x)[1](), "function of dy"),
    ):
        with pytest.raises((TypeError, ValueError), match=text) as raised:
            call()
        assert "\n" not in str(raised.value)


def test_names_are_those_of_the_registry() -> None:
    assert set(fa.names()) <= set(dir(fd))
    assert fd.swish is fd.silu
    elu = fd.elu.bind(alpha=0.5)
    assert repr(elu) == "<<activation 'elu', alpha=0.5> for dask>"
    again = pickle.loads(pickle.dumps(elu))
    np.testing.assert_array_equal(computed(again(lazy(numbers(9, 9)))), fa.elu(numbers(9, 9), 0.5))
    with pytest.raises(AttributeError, match="no attribute 'gelo'"):
        fd.gelo  # noqa: B018


def test_graphs_of_equal_calls_have_equal_names() -> None:
    x = lazy(numbers(9, 9))
    assert fd.gelu(x).name == fd.gelu(x).name != fd.gelu(x, bias=1.0).name


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_schedulers(scheduler: str) -> None:
    x = numbers(300, 200)
    for function in (fa.gelu, fa.get("elu", alpha=0.5), own_activations.swishy):
        y, dx = fd.wrap(function).forward_backward(lazy(x, 100, 100), x)
        with dask.config.set({"multiprocessing.context": "spawn"}):
            found = dask.compute(y, dx, scheduler=scheduler, num_workers=2)
        for one, other in zip(found, function.forward_backward(x, x), strict=True):
            np.testing.assert_array_equal(one, other)


def test_tasks_of_worker_threads_stay_on_them() -> None:
    script = """
    import ctypes, threading
    import numpy as np, dask.array as da
    import fastact as fa, fastact.backends.dask as fd
    from fastact.backends._calls import Request
    from fastact.system.memory_layout import SETTING, SETTINGS

    def limit():
        return ctypes.CFUNCTYPE(ctypes.c_int)(int(SETTINGS[SETTING.get_num_threads]))()

    found = []
    compute = Request.compute
    def watched(self):
        found.append((threading.current_thread() is threading.main_thread(), limit()))
        return compute(self)
    Request.compute = watched
    fa.gelu(np.ones(10**6))  # starts the pool
    x = da.ones(4 * 10**5, chunks=10**5)
    fd.gelu(x).compute(scheduler="threads", num_workers=2)
    workers = [n for is_main, n in found if not is_main]
    assert workers and set(workers) == {1}, found
    found.clear()
    fd.gelu(x).compute(scheduler="synchronous")
    assert all(n != 1 for _, n in found), found
    """
    assert_clean(run_python(script))


def test_processes_of_a_cluster() -> None:
    pytest.importorskip("distributed")
    script = """
    import numpy as np, dask, dask.array as da
    from distributed import Client, LocalCluster
    import fastact as fa, fastact.backends.dask as fd
    import own_activations

    @fa.activation
    def steep(x, k=2.0):
        return x * fa.math.tanh(k * x)

    options = dict(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with LocalCluster(**options) as cluster, Client(cluster):
        a = np.random.default_rng(0).standard_normal((400, 300))
        x = da.from_array(a, chunks=(100, 100))
        for function in (fa.gelu, fa.get("elu", alpha=0.5), own_activations.swishy, steep, steep.bind(k=3.0)):
            found = dask.compute(*fd.wrap(function).forward_backward(x, x))
            for one, other in zip(found, function.forward_backward(a, a)):
                np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(fd.softmax(x).compute(), fa.softmax(a), rtol=1e-14)
        y, vjp = fd.layer_norm.vjp(x)
        np.testing.assert_allclose(vjp(x).compute(), fa.layer_norm.backward(a, a), rtol=1e-12)
        loss = fd.softmax_cross_entropy(x, np.arange(400) % 300)
        np.testing.assert_allclose(loss.compute(), fa.softmax_cross_entropy(a, np.arange(400) % 300))
    """
    assert_clean(run_python(script))


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux")
def test_an_array_of_several_times_the_memory() -> None:
    script = """
    import resource
    from math import erf, sqrt
    import numpy as np, dask, dask.array as da
    import fastact as fa, fastact.backends.dask as fd

    n = 7 * 2**26  # 1.75 GiB, of the numbers from -3 to 3 in turn
    x = (da.arange(n, chunks=7 * 2**19, dtype=np.int32) % 7 - 3).astype(np.float32)
    mean = fd.gelu(x).mean(dtype=float)
    def compute(array):
        return array.compute(scheduler="threads", num_workers=2)
    compute(fd.gelu(x[:100]).sum())  # what there is to load is loaded
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))
    try:
        np.ones(n, np.float32)
    except MemoryError:
        pass
    else:
        raise AssertionError("the limit does not hold")
    right = sum(v * (1 + erf(v / sqrt(2))) / 2 for v in range(-3, 4)) / 7
    np.testing.assert_allclose(compute(mean), right, rtol=1e-6)
    """
    assert_clean(run_python(script))
