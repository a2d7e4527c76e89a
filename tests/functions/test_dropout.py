"""Dropout: Philox against its published answers, masks against a plain Philox, gradients, wrong calls."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fresh_process import assert_clean, run_python
from numba import njit, types

import fastact as fa
from fastact import simd
from fastact.arrays.random_numbers import key_of
from fastact.simd.lowering import Vector
from fastact.simd.memory import Access, first_lanes
from fastact.simd.random import RandomWords, philox
from fastact.simd.storage import Storage
from fastact.system.target import host

KEY = 0x1BD11BDAA9FC1A22
LOWER = 2**32 - 1


def normal(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def plain_philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 as its paper describes it, in whole numbers of Python."""
    a, b, c, d = counter
    k, m = key
    for _ in range(10):
        left, right = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = right // 2**32 ^ b ^ k, right % 2**32, left // 2**32 ^ d ^ m, left % 2**32
        k, m = (k + 0x9E3779B9) % 2**32, (m + 0xBB67AE85) % 2**32
    return [a, b, c, d]


def plain_words(key: int, count: int, first: int = 0) -> Any:
    """Return the words of elements from the first one on."""
    found = np.empty(count, np.uint64)
    for i in range(count):
        group, place = divmod(first + i, 64)
        counter = 16 * group + place % 16
        words = plain_philox([counter % 2**32, counter >> 32, 0, 0], [key % 2**32, key >> 32])
        found[i] = words[place // 16]
    return found


def is_kept(key: int, count: int, p: float) -> Any:
    return plain_words(key, count) >= round(p * 2**32)


# From the file kat_vectors of Random123, https://github.com/DEShawResearch/random123.
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([LOWER] * 4, [LOWER] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(counter: list[int], key: list[int], words: list[int]) -> None:
    assert plain_philox(counter, key) == words

    @njit
    def compiled(a: int, b: int, c: int, d: int, key: int) -> Any:
        return philox(a, b, c, d, key)

    whole = np.uint64(key[1] << 32 | key[0]).view(np.int64)
    assert [word & LOWER for word in compiled(*counter, int(whole))] == words


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lanes", [4, 16, 128])
@pytest.mark.parametrize("first", [0, 1, 77, 64 * 2**32 - 5])
def test_words(first: int, lanes: int, dtype: str) -> None:
    """Of any elements, those of counters beyond 2**32 too; as uniform numbers, and against a threshold."""
    vector = Vector(getattr(types, dtype), lanes)
    random = RandomWords(vector)
    reserve, words_at = random.reserve, random.words_at
    size, store = np.dtype(dtype).itemsize, Access(Storage(dtype), vector).store
    lanes_up_to = first_lanes(vector)
    count = 1500

    @njit
    def fill(key: int, threshold: int, of_uniform: int, of_mask: int) -> None:
        window = reserve()
        for i in range(0, count, lanes):
            mask = lanes_up_to(count - i)
            words = words_at(window, key, first + i, first + count)
            uniform = simd.uniform(words)
            store(of_uniform + size * i, size, mask, uniform)
            reached = simd.select(simd.at_least(words, threshold), uniform * 0 + 1, 0)
            store(of_mask + size * i, size, mask, reached)

    words = plain_words(KEY, count, first)
    half = {"float32": 2.0**-24, "float64": 2.0**-33}[dtype]
    steps = words // 2**9 if dtype == "float32" else words
    for threshold in (0, 1, 2**31, 2**32 - 1, 2**32, int(words[3])):
        uniform, mask = np.empty(count, dtype), np.empty(count, dtype)
        fill(KEY, threshold, uniform.ctypes.data, mask.ctypes.data)
        np.testing.assert_array_equal(uniform, (2 * steps.astype(float) + 1) * half)
        np.testing.assert_array_equal(mask, words >= threshold)


@pytest.mark.parametrize("dtype", ["e", "f", "d"])
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000, 16_384 + 7])
def test_masks(count: int, dtype: str) -> None:
    x, dy = normal(count, dtype=dtype), normal(count, dtype=dtype, seed=1)
    kept, scale = is_kept(KEY, count, 0.3), 1 / 0.7
    unit = np.finfo(dtype).eps
    y, dx = fa.dropout.forward_backward(x, dy, 0.3, rng=KEY)
    for found, given in ((y, x), (dx, dy)):
        assert found.dtype == dtype
        exact = np.where(kept, given.astype(float) * scale, 0)
        np.testing.assert_allclose(found, exact, rtol=2 * unit)
    np.testing.assert_array_equal(fa.dropout(x, 0.3, rng=KEY), y)
    np.testing.assert_array_equal(fa.dropout.backward(dy, 0.3, rng=KEY), dx)


def test_bfloat16() -> None:
    kind = pytest.importorskip("ml_dtypes").bfloat16
    x = normal(1000, dtype=kind)
    y = fa.dropout(x, 0.3, rng=KEY)
    assert y.dtype == kind
    exact = np.where(is_kept(KEY, 1000, 0.3), x.astype(float) / 0.7, 0)
    np.testing.assert_allclose(y.astype(float), exact, rtol=2**-8)


@pytest.mark.parametrize("key", [0, 2**32, 2**63 + 1, 2**64 - 1])
def test_keys(key: int) -> None:
    y = fa.dropout(np.ones(200), 0.5, rng=key)
    np.testing.assert_array_equal(y, 2 * is_kept(key, 200, 0.5))
    np.testing.assert_array_equal(fa.dropout(np.ones(200), 0.5, rng=np.uint64(key)), y)


# The ufuncs themselves, of which each row has a key and a first index of its own.
HALF = np.int64(2**31)


def ufunc_keeps(key: Any, first: Any, ones: Any, out: Any = None) -> Any:
    number = ones.dtype.type(1)
    return fa.dropout.ufuncs["forward"](key, first, HALF, ones, number, out=out) != 0


@pytest.mark.parametrize("dtype", ["e", "f", "d"])
def test_rows_with_keys_and_indices_of_their_own(dtype: str) -> None:
    keys, firsts = np.array([5, 6, 5, -1]), np.array([0, 0, 64, 100])
    kept = ufunc_keeps(keys, firsts, np.ones((4, 150), dtype))
    for row, key, first in zip(kept, keys.tolist(), firsts.tolist(), strict=True):
        np.testing.assert_array_equal(row, plain_words(key % 2**64, 150, first) >= HALF)


def test_any_number_is_an_index() -> None:
    """Where they run over, each element has the word of its own index, as alone; a wrong window ends the process."""
    script = """
        import numpy as np
        from test_dropout import ufunc_keeps

        for first in (2**63 - 1, 2**63 - 70, -(2**63), -300, -1):
            for dtype in "efd":
                kept = ufunc_keeps(7, np.int64(first), np.ones(300, dtype))
                indices = np.int64(first) + np.arange(300)
                np.testing.assert_array_equal(kept, ufunc_keeps(7, indices, np.ones((300, 1), dtype))[:, 0])
                assert 100 < kept.sum() < 200
    """
    assert_clean(run_python(script))


@pytest.mark.parametrize("dtype", ["e", "f", "d"])
def test_strides_of_the_ufunc(dtype: str) -> None:
    """Neither what is read nor what is written nor what is drawn depends on them."""
    wanted = plain_words(9, 40) >= HALF
    x = normal(40, dtype=dtype)
    big = np.full(200, 7, dtype)
    for view in (big[10:50], big[10:50][::-1], big[10:130:3], big[10:130:3][::-1]):
        big[...] = 7
        view[...] = x
        for given in (x, view, np.repeat(x, 2)[::2]):
            assert np.array_equal(ufunc_keeps(9, 0, given, out=view), wanted)
            assert np.array_equal(view, np.where(wanted, x, 0))
            view[...] = 7
            assert (big == 7).all()
            view[...] = x
    assert np.array_equal(ufunc_keeps(9, 0, np.broadcast_to(x[:1], 40)), wanted)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_share_of_what_is_kept(p: float) -> None:
    """Within five standard deviations of a binomial number, for several seeds."""
    count = 10**6
    for seed in range(4):
        kept = np.count_nonzero(fa.dropout(np.ones(count, "f"), p, rng=seed))
        assert abs(kept - count * (1 - p)) < 5 * np.sqrt(count * p * (1 - p))


def test_masks_of_seeds_and_neighbours_are_independent() -> None:
    """Correlations within five standard deviations."""
    count = 10**6
    one, other = (fa.dropout(np.ones(count), 0.5, rng=seed) - 1 for seed in (1, 2))
    for left, right in ((one, other), (one[1:], one[:-1]), (one[64:], one[:-64])):
        assert abs(np.sum(left * right)) < 5 * np.sqrt(count)


@pytest.fixture
def threads() -> Iterator[None]:
    before = fa.get_num_threads()
    yield
    fa.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("layer", [fa.dropout, fa.alpha_dropout])
def test_masks_depend_on_indices_alone(layer: Any) -> None:
    """Not on layout, threads or type."""
    x = normal(300, 7, 211)
    wanted = layer(x, 0.3, rng=KEY)
    dropped = fa.dropout(np.ones_like(x), 0.3, rng=KEY) == 0
    for number in (1, min(2, fa.get_num_threads())):
        fa.set_num_threads(number)
        for view in (
            x,
            np.asfortranarray(x),
            np.repeat(x, 2, 1)[:, ::2],
            x[::-1].copy()[::-1],
            x.astype(">f8"),
        ):
            np.testing.assert_array_equal(layer(view, 0.3, rng=KEY), wanted)
    for dtype in ("e", "f"):
        y = layer(x.astype(dtype), 0.3, rng=KEY)
        np.testing.assert_array_equal(y[dropped], y[dropped][0])
        assert np.mean(y == y[dropped][0]) < 0.31
    flat = layer(x.reshape(-1), 0.3, rng=KEY)
    np.testing.assert_array_equal(flat, wanted.reshape(-1))


def test_integers() -> None:
    for given, kind in (
        (np.arange(100), "d"),
        (np.ones(100, np.int8), "e"),
        (np.ones(9, bool), "e"),
    ):
        y = fa.dropout(given, 0.3, rng=KEY)
        assert y.dtype == kind
        exact = given * is_kept(KEY, given.size, 0.3) / 0.7
        np.testing.assert_allclose(y, exact, rtol=2e-3)
    y = fa.dropout(2, 0.3, rng=KEY)
    assert y.shape == ()
    assert y.dtype == np.float64
    assert fa.dropout(np.ones((0, 3)), 0.3, rng=KEY).shape == (0, 3)


def test_ends_of_the_chance() -> None:
    x = np.array([1.5, -0.0, np.nan, np.inf, -np.inf] * 20)
    for layer in (fa.dropout, fa.alpha_dropout):
        y, dx = layer.forward_backward(x, x, 0, rng=1)
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(dx, x)
        y, dx = layer.forward_backward(x, x, 1, rng=1)
        np.testing.assert_array_equal(y, np.zeros(100))
        np.testing.assert_array_equal(dx, np.zeros(100))
    kept = is_kept(KEY, 100, 0.5)
    y = fa.dropout(x, 0.5, rng=KEY)
    np.testing.assert_array_equal(y[kept], 2 * x[kept])
    np.testing.assert_array_equal(y[~kept], 0)


def test_out_and_in_place() -> None:
    x, dy = normal(7, 50), normal(7, 50, seed=1)
    y, dx = fa.dropout.forward_backward(x, dy, 0.3, rng=KEY)
    own = x.copy()
    assert fa.dropout(own, 0.3, rng=KEY, out=own) is own
    np.testing.assert_array_equal(own, y)
    own = dy.copy()
    fa.dropout.backward(own, 0.3, rng=KEY, out=own)
    np.testing.assert_array_equal(own, dx)
    out = np.empty((50, 7)).T, np.empty((7, 100), "f")[:, ::2]
    found = fa.dropout.forward_backward(x, dy, 0.3, rng=KEY, out=out)
    assert found[0] is out[0]
    np.testing.assert_array_equal(out[0], y)
    np.testing.assert_array_equal(out[1], dx.astype("f"))


def test_alpha_dropout() -> None:
    """By PyTorch's formula, from selu's two constants; mean 0 and variance 1 stay, as its paper promises."""
    x, dy, p = normal(1000, 1000), normal(1000, 1000, seed=1), 0.3
    y, dx = fa.alpha_dropout.forward_backward(x, dy, p, rng=KEY)
    alpha = 1.0507009873554804934193349852946 * 1.6732632423543772848170429916717
    a = 1 / np.sqrt((alpha**2 * p + 1) * (1 - p))
    noise = fa.dropout(np.ones_like(x), p, rng=KEY) > 0  # which `test_masks` has compared
    shift = (noise - 1.0) * (alpha * a) + alpha * a * p
    np.testing.assert_allclose(y, x * (noise * a) + shift, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(dx, dy * (noise * a), rtol=1e-14)
    assert abs(np.mean(y)) < 5e-3
    assert abs(np.var(y) - 1) < 1e-2
    np.testing.assert_array_equal(fa.alpha_dropout(x, p, rng=KEY), y)
    np.testing.assert_array_equal(fa.alpha_dropout.backward(dy, p, rng=KEY), dx)
    np.testing.assert_allclose(fa.selu(-100.0), -alpha, rtol=1e-15)


def test_alpha_dropout_against_pytorch() -> None:
    """Both values that an element of PyTorch's can take."""
    torch = pytest.importorskip("torch")
    x = np.full(1000, 0.7)
    theirs = np.unique(torch.nn.functional.alpha_dropout(torch.tensor(x), 0.3, training=True))
    np.testing.assert_allclose(np.unique(fa.alpha_dropout(x, 0.3, rng=1)), theirs, rtol=1e-12)


def test_finite_differences() -> None:
    x, dy, step = normal(200), normal(200, seed=1), 1e-4
    for layer in (fa.dropout, fa.alpha_dropout):
        dx = layer.backward(dy, 0.3, rng=KEY)
        ahead, behind = (layer(x + move, 0.3, rng=KEY) for move in (step, -step))
        np.testing.assert_allclose(dx, dy * (ahead - behind) / (2 * step), rtol=1e-9, atol=1e-9)


def test_generators_and_seed_sequences() -> None:
    x, rng = np.ones(1000), np.random.default_rng(5)
    y, dx = fa.dropout.forward_backward(x, x, 0.5, rng=rng)
    np.testing.assert_array_equal(y, dx)
    assert (fa.dropout(x, 0.5, rng=rng) != y).any()
    np.testing.assert_array_equal(fa.dropout(x, 0.5, rng=np.random.default_rng(5)), y)
    key = key_of("test", np.random.SeedSequence((3, 4)))
    assert key == key_of("test", np.random.SeedSequence((3, 4))) != key_of("test", 3)


def test_lookup() -> None:
    for name in ("dropout", "alpha_dropout"):
        layer = getattr(fa, name)
        assert fa.get(name) is layer
        assert pickle.loads(pickle.dumps(layer)) is layer
        assert name in fa.names("packed", "dropout", "normalization", "loss")
        assert pickle.loads(pickle.dumps(layer.ufuncs["backward"])) is layer.ufuncs["backward"]


X = np.ones((2, 4))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: fa.dropout(X, 0.5), TypeError, ["dropout: rng is missing", "seed", "Generator"]),
        (lambda: fa.dropout.backward(X, 0.5), TypeError, ["dropout.backward: rng is missing"]),
        (lambda: fa.dropout.backward(X, rng=1), TypeError, ["'p'"]),
        (
            lambda: fa.dropout.backward(X, 0.5, rng=np.random.default_rng()),
            TypeError,
            ["dropout.backward", "generator cannot repeat", "forward_backward"],
        ),
        (lambda: fa.dropout(X, 0.5, rng=True), TypeError, ["rng must be an int", "True"]),
        (lambda: fa.dropout(X, 0.5, rng=1.0), TypeError, ["rng must be an int", "1.0"]),
        (lambda: fa.dropout(X, 0.5, rng=np.random), TypeError, ["rng must be", "RandomState"]),
        (lambda: fa.dropout(X, 0.5, rng=-1), ValueError, ["rng", "2**64 - 1", "-1"]),
        (lambda: fa.dropout(X, 0.5, rng=2**64), ValueError, ["rng", "2**64 - 1"]),
        (lambda: fa.dropout(X, -0.1, rng=1), ValueError, ["p must be", "0 to 1", "-0.1"]),
        (lambda: fa.dropout(X, 1.01, rng=1), ValueError, ["p must be", "1.01"]),
        (lambda: fa.dropout(X, np.nan, rng=1), ValueError, ["p must be", "nan"]),
        (lambda: fa.dropout(X, X, rng=1), ValueError, ["p must be a number"]),
        (lambda: fa.dropout(X, "a", rng=1), TypeError, ["p has dtype"]),
        (lambda: fa.dropout(X * 1j, rng=1), TypeError, ["x has dtype complex"]),
        (lambda: fa.dropout.forward_backward(X, X[0], rng=1), ValueError, ["(2, 4)", "(4,)"]),
        (lambda: fa.alpha_dropout(X, rng=1, out=X[0]), ValueError, ["out", "(4,)", "(2, 4)"]),
        (lambda: fa.alpha_dropout(X), TypeError, ["alpha_dropout: rng is missing"]),
    ],
)
def test_wrong_calls(call: Callable[[], Any], kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.skipif(not host().has_avx512, reason="this CPU has no AVX-512")
@pytest.mark.parametrize("cpu", ["haswell", "x86-64-v2"])
def test_masks_do_not_depend_on_the_cpu(cpu: str) -> None:
    output = assert_clean(
        run_python(
            f"""
            import numpy as np
            import fastact as fa
            x = np.ones((23, 211), "f")
            y = fa.dropout(x, 0.3, rng={KEY})
            assert (fa.relu(x, bias=x[0], dropout=0.3, rng={KEY}) == 2 * y).all()
            assert (fa.dropout(x.astype("d"), 0.3, rng={KEY}) != 0).tolist() == (y != 0).tolist()
            print(np.packbits(y != 0).tobytes().hex())
            """,
            NUMBA_CPU_NAME=cpu,
        )
    )
    kept = is_kept(KEY, 23 * 211, 0.3)
    assert output.strip() == np.packbits(kept).tobytes().hex()
