"""Calls that repeat earlier ones run in machine code: whatever differs must be noticed, and nothing may leak."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fresh_process import assert_clean, run_python

import fastact as fa
from fastact.runtime import replays
from fastact.runtime.dtypes import dtype_of

WARM = 4  # calls after which a call is replayed


def sample(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def warmed(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    for _ in range(WARM):
        result = function(*args, **options)
    return result


def is_replayed(function: Any, *key: Any) -> bool:
    return (key if len(key) > 1 else key[0]) in function._replays


@pytest.fixture
def relu() -> Any:
    """Return a function without replays, whose kernel is that of relu."""
    return fa.leaky_relu.bind(negative_slope=0.0)


class Subclass(np.ndarray):
    """A subclass that adds nothing."""


def unaligned(x: Any) -> Any:
    room = np.empty(x.nbytes + 1, np.uint8)[1:]
    found = room.view(x.dtype).reshape(x.shape)
    found[...] = x
    return found


OTHERS: dict[str, Callable[[Any], Any]] = {
    "another shape": lambda x: x[:2],
    "another shape of the same size": lambda x: x.reshape(x.shape[::-1]),
    "more dimensions": lambda x: x[None],
    "another dtype": lambda x: x.astype(np.float64),
    "half": lambda x: x.astype(np.float16),
    "integers": lambda x: (4 * x).astype(np.int32),
    "a subclass": lambda x: x.view(Subclass),
    "Fortran order": np.asfortranarray,
    "reversed": lambda x: x[::-1, ::-1],
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "broadcast": lambda x: np.broadcast_to(x[0], x.shape),
    "unaligned": unaligned,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "empty": lambda x: x[:0],
    "0-d": lambda x: x[0, 0, ...],
    "a list": lambda x: x.tolist(),
    "a number": lambda x: float(x[0, 0]),
    "large": lambda x: np.repeat(x, 2**12, axis=0),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_differs_is_noticed(relu: Any, other: str) -> None:
    x = sample(7, 30)
    warmed(relu, x)
    assert is_replayed(relu, "forward")
    given = OTHERS[other](x)
    for _ in range(WARM):
        found = relu(given)
        np.testing.assert_array_equal(found, np.maximum(np.asarray(given), 0))
        assert found.dtype == np.result_type(np.asarray(given), np.float16).newbyteorder("=")
        assert type(found) is (Subclass if other == "a subclass" else type(np.maximum(given, 0)))


@pytest.mark.parametrize("other", OTHERS)
def test_what_differs_in_a_bias_is_noticed(other: str) -> None:
    x, bias, function = sample(7, 30), sample(1, 30), fa.leaky_relu.bind(negative_slope=0.0)
    warmed(function, x, bias=bias)
    assert is_replayed(function, "forward", 0, "bias")
    given = OTHERS[other](bias) if other != "large" else bias
    if np.shape(given) in ((30, 1), (0, 30), (1, 1, 30)):
        with pytest.raises(ValueError, match=r"leaky_relu: bias"):
            function(x, bias=given)
        return
    want = np.maximum(x + np.asarray(given), 0)
    for _ in range(WARM):
        np.testing.assert_allclose(
            function(x, bias=given), want, rtol=2e-3 if other == "half" else 1e-6
        )


def test_numbers_that_are_equal_but_other_objects() -> None:
    x, function = sample(3, 5), fa.elu.bind(alpha=2.0)
    warmed(function, x, alpha=1.5)
    for alpha in (float("1.5"), 1.25, np.float64(1.5), np.float32(0.5), 1, True, -0.0, 0.0, "a"):
        if alpha == "a":
            with pytest.raises(TypeError, match="alpha"):
                function(x, alpha=alpha)
        else:
            want = np.where(x > 0, x, float(alpha) * np.expm1(x.astype(float)))
            for _ in range(WARM):
                np.testing.assert_allclose(function(x, alpha=alpha), want, rtol=1e-6)


def test_seeds() -> None:
    x, function = np.ones((4, 50), np.float32), fa.dropout.bind()
    want = {seed: function(x, 0.5, rng=seed).copy() for seed in (0, 1, 2**63, 2**64 - 1)}
    warmed(function, x, 0.5, rng=7)
    for seed, first in want.items():
        for given in (seed, np.uint64(seed)):
            np.testing.assert_array_equal(function(x, 0.5, rng=given), first)
    for wrong in (-1, 2**64, 2**100):
        with pytest.raises(ValueError, match="the seed rng must be from 0"):
            function(x, 0.5, rng=wrong)
    for wrong_type in (True, 1.5, "1"):
        with pytest.raises(TypeError, match="rng must be an int"):
            function(x, 0.5, rng=wrong_type)
    drawn = [function(x, 0.5, rng=np.random.default_rng(k)) for k in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_a_generator_is_drawn_from_once() -> None:
    x = np.ones((4, 50), np.float32)
    warmed(fa.dropout, x, 0.5, rng=np.random.default_rng(0))
    other = x.astype(np.dtype("f4", metadata={"unit": "m"}))  # equal, but another object
    for array in (x, other, x[::-1], x.astype(np.float64)):
        drawn, wanted = np.random.default_rng(5), np.random.default_rng(5)
        fa.dropout(array, 0.5, rng=drawn)
        wanted.bit_generator.random_raw()
        assert drawn.bit_generator.state == wanted.bit_generator.state


def test_a_parameter_by_the_name_of_a_seed() -> None:
    f, x = fa.activation(lambda x, rng: x * rng), np.ones((2, 3))
    for factor in (2, 3, 2, 4, 4, 4, 5):
        assert (f(x, rng=factor) == factor).all()
        assert (f(x, factor) == factor).all()


@pytest.mark.parametrize(
    "name",
    ["name", "replay", "results", "operation", "plain", "args", "options", "_args", "__name"],
)
def test_inputs_of_any_name(name: str) -> None:
    names: dict[str, Any] = {}
    exec(f"def f({name}, other): return {name} * other", names)
    f, x = fa.elementwise(names["f"]), sample(2, 3)
    np.testing.assert_array_equal(warmed(f, x, x), x * x)


def test_numbers_stay_numbers() -> None:
    x = np.array(1.0, np.float32)
    for call in (
        lambda: fa.elu(x, alpha=0.5),
        lambda: fa.gelu.vjp(x)[0],
        lambda: fa.selu.backward(x, x, alpha=0.25),
        lambda: fa.softmax(x),
    ):
        assert {type(call()) for _ in range(WARM)} == {np.float32}


def test_gradients_of_a_loss_scale_with_dloss() -> None:
    x, weight, labels = sample(3, 4), sample(5, 4), np.arange(3)
    for loss in (fa.linear_cross_entropy, fa.softmax_cross_entropy, fa.mse):
        given = (x, weight, labels) if loss is fa.linear_cross_entropy else (x, labels)
        given = (x, x + 1) if loss is fa.mse else given
        one = warmed(loss.forward_backward, *given)[1]
        for dloss in (np.array(1.0), np.array(1.0), np.array(2.0), np.array(3.0), 4.0):
            found = loss.forward_backward(*given, dloss)[1]
            # Products cancel: an error is relative to their terms, which are below 1.
            np.testing.assert_allclose(found, one * np.float32(dloss), rtol=1e-6, atol=5e-7)


@pytest.mark.parametrize("shape", [(2, 3, 40), (1, 1, 16), (4, 65, 40), (32, 20)])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_a_gradient_drops_what_its_value_does(dtype: str, shape: tuple[int, ...]) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    kind = dtype_of(dtype)
    x, bias = np.ones(shape, kind), np.ones(shape[1], kind)
    options: dict[str, Any] = {"bias": bias, "axis": 1, "dropout": 0.5, "rng": 3}
    kept = np.asarray(fa.dropout(x, 0.5, rng=3)) != 0
    for _ in range(WARM):
        y, vjp = fa.relu.vjp(x, **options)
        both = fa.relu.forward_backward(x, x, **options)
        dx = fa.relu.backward(x, x, **options)[0]
        for found in (fa.relu(x, **options), y, vjp(x)[0], *both[:2], dx):
            np.testing.assert_array_equal(found != 0, kept)


def test_warnings_stay_off() -> None:
    x, w = sample(64, 3, dtype=np.float16), np.ones(3, np.float16)
    with np.errstate(all="raise"):
        warmed(fa.batch_norm.forward_backward, x, np.full_like(x, 6e4), weight=w, bias=w)


def test_wrong_calls_have_their_messages(relu: Any) -> None:
    x = sample(3, 5)
    warmed(relu, x)
    warmed(relu.backward, x, x)
    for call, message in (
        (lambda: relu(), "x"),
        (lambda: relu(x, where=3, wrong=1), "wrong"),
        (lambda: relu(x.astype(complex)), "complex"),
        (lambda: relu.backward(x, x[:2]), "shape"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()
    np.testing.assert_array_equal(relu(x), np.maximum(x, 0))


def calls() -> dict[str, Callable[[], Any]]:
    """Return calls of all kinds, as functions without arguments."""
    x, dy, b = sample(8, 20), sample(8, 20) + 1, sample(20)
    labels = np.arange(8) % 5
    return {
        "plain": lambda: fa.gelu(x),
        "two results": lambda: fa.gelu.value_and_derivative(x),
        "bias": lambda: fa.gelu(x, bias=b),
        "sums": lambda: fa.gelu.backward(dy, x, bias=b),
        "number": lambda: fa.gelu.backward(dy, x, bias=np.float32(2)),
        "dropout": lambda: fa.dropout(x, 0.5, rng=3),
        "all options": lambda: fa.gelu(x, bias=b, scale=2.0, dropout=0.1, rng=1, residual=dy),
        "softmax": lambda: fa.softmax(x),
        "first axis": lambda: fa.softmax(x, axis=0),
        "causal": lambda: fa.softmax(x, causal=True),
        "mask": lambda: fa.softmax(x, where=x > 0),
        "rows": lambda: fa.layer_norm.forward_backward(x, dy, weight=b, bias=b),
        "some sums": lambda: fa.layer_norm.backward(dy, x, weight=b),
        "batch": lambda: fa.batch_norm.forward_backward(x, dy, weight=b, bias=b),
        "gates": lambda: fa.swiglu.forward_backward(x, dy[:, :10]),
        "maxout": lambda: fa.maxout.forward_with_index(x, pieces=2),
        "cell": lambda: fa.lstm_cell(x, dy[:, :5]),
        "loss": lambda: fa.mse.forward_backward(x, dy),
        "losses": lambda: fa.mse(x, dy, reduction="none"),
        "labels": lambda: fa.softmax_cross_entropy.forward_backward(x, labels),
        "vjp": lambda: through(fa.gelu.vjp(x), dy),
        "vjp of bias": lambda: through(fa.gelu.vjp(x, bias=b), dy),
        "vjp of relu": lambda: through(fa.relu.vjp(x, bias=b, dropout=0.5, rng=2), dy),
        "vjp of rows": lambda: through(fa.softmax.vjp(x, scale=0.5), dy),
        "vjp of a loss": lambda: through(fa.mse.vjp(x, dy)),
        "vjp of labels": lambda: through(
            fa.softmax_cross_entropy.vjp(x, labels, return_probabilities=True)
        ),
        "vjp of a cell": lambda: through(fa.lstm_cell.vjp(x, dy[:, :5]), dy[:, :5], dy[:, :5]),
    }


def through(results: Any, *gradients: Any) -> Any:
    """Return the value and the gradients."""
    *values, vjp = results
    found = vjp(*gradients)
    return *values, *(found if isinstance(found, tuple) else (found,))


def equal(a: Any, b: Any) -> None:
    pairs = zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]
    for one, other in pairs:
        assert type(one) is type(other)
        np.testing.assert_array_equal(one, other)
        assert np.asarray(one).dtype == np.asarray(other).dtype


@pytest.mark.parametrize("name", calls())
def test_the_first_call_and_later_ones_agree_without_leaks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in vars(fa).values():  # as in a new process
        if hasattr(each, "_forget_calls"):
            each._forget_calls()
    call = calls()[name]
    with monkeypatch.context() as without:
        without.setattr(replays, "_is_supported", lambda: False)
        first = copy.deepcopy(call())
        equal(warmed(call), first)  # by plans that are not replayed
    for each in vars(fa).values():
        if hasattr(each, "_forget_calls"):
            each._forget_calls()
    for _ in range(2 * WARM):
        equal(call(), first)
    # Not of float64: NumPy's `ufunc.resolve_dtypes`, which first calls use, leaks references to it.
    watched = (np.dtype(np.float32), np.ndarray, None)
    tracemalloc.start()
    for _ in range(300):  # fills Python's free lists
        call()
    used, before = tracemalloc.get_traced_memory()[0], [sys.getrefcount(each) for each in watched]
    for _ in range(1000):
        call()
    grown = tracemalloc.get_traced_memory()[0] - used
    after = [sys.getrefcount(each) for each in watched]
    tracemalloc.stop()
    assert grown < 50_000, "1000 calls keep memory"
    assert max(abs(a - b) for a, b in zip(before, after, strict=True)) < 500


def test_misses_do_not_leak(relu: Any) -> None:
    x, others = sample(3, 5), [sample(4, 5), sample(3, 5, dtype=np.float64), 1.0]
    warmed(relu, x)
    replay = relu._replays["forward"]
    references = [sys.getrefcount(each) for each in (x, *others, None)]
    for _ in range(10_000):
        for each in others:
            assert replay(each) is None
        assert replay() is None
        assert replay(x, x) is None
    found = [sys.getrefcount(each) for each in (x, *others, None)]
    assert max(abs(a - b) for a, b in zip(references, found, strict=True)) < 100


def test_many_shapes_in_turn(relu: Any) -> None:
    for _ in range(3):
        for n in range(1, 60):
            x = sample(n, 3)
            for _ in range(WARM):
                np.testing.assert_array_equal(relu(x), np.maximum(x, 0))


def test_inputs_live_as_long_as_they_are_used(relu: Any) -> None:
    shape = 64, 64
    for _ in range(200):
        found = relu(sample(*shape) - 1)
        assert found.shape == shape
        assert found.min() == 0


def test_copies_and_pickles() -> None:
    x, function = sample(3, 5), fa.elu.bind(alpha=0.5)
    want = warmed(function, x)
    for other in (
        copy.copy(function),
        copy.deepcopy(function),
        pickle.loads(pickle.dumps(function)),
    ):
        np.testing.assert_array_equal(warmed(other, x), want)
    bound = function.bind(alpha=1.0)
    assert not bound._replays
    np.testing.assert_allclose(bound(x), np.where(x > 0, x, np.expm1(x)), rtol=1e-6)
    _, vjp = warmed(function.vjp, x)
    warmed(vjp, x)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(vjp))(x), vjp(x))


def test_threads_find_and_make_replays_at_once() -> None:
    function, failures = fa.leaky_relu.bind(negative_slope=0.0), []
    bias = sample(30)

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(300):
            x = random.standard_normal((int(random.integers(1, 40)), 30)).astype(np.float32)
            if not np.array_equal(function(x), np.maximum(x, 0)):
                failures.append(x.shape)
            y, vjp = function.vjp(x, bias=bias)
            du, _ = vjp(y)
            if not np.array_equal(du, np.maximum(x + bias, 0)):
                failures.append(x.shape)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failures


def test_on_several_threads() -> None:
    script = """
        import numpy as np, fastact as fa
        fa.set_parallel_threshold(1)
        x = np.random.default_rng(0).standard_normal((32, 100)).astype("f")
        for _ in range(2000):
            y = fa.relu(x)
        assert "forward" in fa.relu._replays
        assert (y == np.maximum(x, 0)).all()
    """
    assert_clean(run_python(script))


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit on memory")
def test_without_memory() -> None:
    script = """
        import resource, numpy as np, fastact as fa
        x = np.ones((100, 900), np.float32)
        for _ in range(5):
            fa.relu.value_and_derivative(x)
        assert "value_and_derivative" in fa.relu._replays
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + 2**24, resource.RLIM_INFINITY))
        kept = []
        try:
            while True:
                kept.append(fa.relu.value_and_derivative(x))
        except MemoryError:
            pass
        assert len(kept) > 5, len(kept)
        del kept
        y, d = fa.relu.value_and_derivative(x)
        assert y.sum() == d.sum() == x.size
    """
    assert_clean(run_python(script))
