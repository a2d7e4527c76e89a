"""thinc's operations by our kernels: against `NumpyOps`, and where that is inexact against its formulas in float64."""

import doctest
import inspect
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("thinc", minversion="9.1")
import thinc.api
from scipy import special
from thinc.api import (
    Gelu,
    Maxout,
    Model,
    Relu,
    Softmax,
    chain,
    fix_random_seed,
    get_ops,
    registry,
    use_ops,
)
from thinc.backends.ops import Ops

import fastact as fa
from fastact.backends import thinc as backend
from fastact.catalogue import catalogue

THEIRS, OURS = get_ops("numpy"), backend.FastactOps()
GENERATED = [
    name
    for name in dir(Ops)
    if name in vars(backend.FastactOps) and callable(getattr(Ops, name)) and name[0] != "_"
]
ELEMENTWISE = [
    name for name in GENERATED if "inplace" in inspect.signature(getattr(Ops, name)).parameters
]
ELEMENTWISE.remove("softmax")
rng = np.random.default_rng(0)


def arguments(name, dtype, shape=(6, 7)):
    """Return arrays for the arguments of a method that are arrays; Y is a value of that activation."""
    names = [n for n in inspect.signature(getattr(Ops, name)).parameters if n in ("dY", "X", "Y")]
    x = np.asarray(rng.uniform(-8, 8, shape), dtype)
    forward = getattr(THEIRS, name.removeprefix("backprop_"))
    y = forward(x) if "Y" in names else None
    values = {"dY": np.asarray(rng.uniform(-1, 1, shape), dtype), "X": x, "Y": y}
    return [values[each] for each in names]


def reference(name, arrays, **options):
    """Compute a method by thinc's formulas in float64, with an exact error function."""
    exact = Ops()
    exact.erf = special.erf
    return getattr(exact, name)(*(each.astype(np.float64) for each in arrays), **options)


def test_it_is_registered():
    assert type(get_ops("fastact")) is backend.FastactOps
    assert isinstance(get_ops("fastact", use_blis=False), thinc.api.NumpyOps)
    with use_ops("fastact"):
        assert type(Relu(3, 2).ops) is backend.FastactOps
    assert type(get_ops("cpu")) is thinc.api.NumpyOps


def test_every_name_that_the_registry_knows():
    """Pairs of thinc's methods are ours if the registry has the function, and only they."""
    pairs = {n for n in dir(Ops) if hasattr(Ops, f"backprop_{n}")}
    in_thinc = {d.elsewhere["thinc"] for d in catalogue().values() if "thinc" in d.elsewhere}
    assert in_thinc <= pairs
    others = pairs - set(GENERATED)
    assert others == {
        *("lstm", "reduce_first", "reduce_last", "reduce_max", "reduce_mean", "reduce_sum"),
        *("seq2col", "softmax_sequences"),
    } - {"lstm"}
    assert {"maxout", "softmax", "erf", "get_dropout_mask", "swish"} <= set(GENERATED)


def test_same_signatures():
    for name in GENERATED:
        assert inspect.signature(getattr(OURS, name)) == inspect.signature(getattr(Ops(), name))
        assert getattr(OURS, name).__doc__ == getattr(Ops, name).__doc__


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name, dtype):
    arrays = arguments(name, dtype)
    copies = [each.copy() for each in arrays]
    got = getattr(OURS, name)(*arrays)
    assert got.dtype == dtype
    assert not any(np.shares_memory(got, each) for each in arrays)
    for each, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(each, copy)
    # The constants of thinc's gelu_approx have six digits.
    error = 2e-5 if name == "backprop_gelu_approx" else 0
    want = reference(name, arrays)
    np.testing.assert_allclose(
        got, want, rtol=8 * np.finfo(dtype).eps + error, atol=4 * np.finfo(dtype).eps + error
    )


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_in_place(name):
    """The array that thinc overwrites and returns, or a new one where it ignores ``inplace``, also of a strided view."""
    arrays = arguments(name, np.float32)
    theirs = [each.copy() for each in arrays]
    result = getattr(THEIRS, name)(*theirs, inplace=True)
    returned = [result is each for each in theirs]
    want = getattr(OURS, name)(*arrays)
    for view in (np.s_[:, :], np.s_[::-1, ::2]):
        ours = [each.copy() for each in arrays]
        views = [each[view] for each in ours]
        got = getattr(OURS, name)(*views, inplace=True)
        assert [got is each for each in views] == returned
        np.testing.assert_array_equal(got, want[view])
        for each, array, is_returned in zip(ours, arrays, returned, strict=True):
            outside = np.ones(array.shape, bool)
            outside[view] = not is_returned
            np.testing.assert_array_equal(each[outside], array[outside])


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_what_numpy_ops_decides(name):
    """Integers, mixed dtypes, shapes that differ and subclasses: as `NumpyOps` does."""

    def outcome(ops, arrays):
        arrays = [each.copy() for each in arrays]
        try:
            with np.errstate(all="ignore"):
                result = getattr(ops, name)(*arrays)
        except Exception as error:
            return (type(error), str(error)), np.empty(0)
        return (type(result), result.dtype), result

    arrays = arguments(name, np.float32)
    variants = [[np.rint(each).astype(int) for each in arrays]]
    variants.append([each.astype(np.longdouble) for each in arrays])
    if len(arrays) > 1:
        variants.append([arrays[0].astype(np.float64), *arrays[1:]])
        variants.append([arrays[0][:, :1], *arrays[1:]])
    for given in variants:
        kind, got = outcome(OURS, given)
        expected_kind, want = outcome(THEIRS, given)
        assert kind == expected_kind
        # thinc's error function is within 2e-7, and our own is used for that too.
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (3, 0), (2, 3, 4)])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_shapes(name, shape):
    arrays = arguments(name, np.float64, shape)
    got = getattr(OURS, name)(*map(np.asarray, arrays))
    assert got.shape == shape
    want = reference(name, [np.atleast_1d(each) for each in arrays])
    np.testing.assert_allclose(got, want.reshape(shape), rtol=1e-5, atol=1e-5)


def test_read_only():
    x = np.ones(3)
    x.flags.writeable = False
    assert OURS.gelu(x).flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        OURS.gelu(x, inplace=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_options(dtype):
    x, dy = rng.uniform(-3, 3, (2, 50)).astype(dtype)
    for call in (
        lambda ops: ops.clipped_linear(x, 0.5, 0.25, min_val=-0.5),
        lambda ops: ops.clipped_linear(X=x, slope=2.0, inplace=False),
        lambda ops: ops.clipped_linear(x, 0.0, 0.25),
        lambda ops: ops.backprop_clipped_linear(dy, x, 0.5, 0.25, -0.5, 1.0, False),
        lambda ops: ops.relu_k(x, 1.5),
        lambda ops: ops.relu_k(x, n=2),
        lambda ops: ops.backprop_relu_k(dy, X=x, n=1.5),
        lambda ops: ops.mish(x, 1.0),
        lambda ops: ops.backprop_mish(dy, x, threshold=1.0),
        lambda ops: ops.backprop_swish(dY=dy, X=x, Y=ops.swish(x)),
    ):
        np.testing.assert_allclose(call(OURS), call(THEIRS), rtol=1e-5, atol=1e-6)
    for ops in (OURS, THEIRS):
        y = x.copy()
        assert ops.relu_k(y, 1.0, True) is y
        np.testing.assert_array_equal(y, np.clip(x, 0, 1))
        with pytest.raises(TypeError):
            ops.relu_k(x, no_option=1)


@pytest.mark.parametrize(
    ("name", "kinks"), [("hard_swish", [2.5]), ("hard_tanh", [1, -1]), ("relu", [0])]
)
def test_kinks_are_thincs(name, kinks):
    x = np.array(kinks, np.float32)
    arrays = [np.ones_like(x), x]
    want = getattr(THEIRS, f"backprop_{name}")(*arrays)
    np.testing.assert_array_equal(getattr(OURS, f"backprop_{name}")(*arrays), want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "options", [{}, {"temperature": 2.5}, {"axis": 0}, {"axis": 1, "temperature": 0.5}]
)
def test_softmax(options, dtype):
    x, dy = rng.standard_normal((2, 5, 9)).astype(dtype)
    tolerance = {"rtol": 8 * np.finfo(dtype).eps, "atol": 4 * np.finfo(dtype).eps}
    want = reference("softmax", [x], **options)
    got = OURS.softmax(x, inplace=True, **options)
    np.testing.assert_allclose(got, want, **tolerance)
    assert not np.shares_memory(got, x)
    np.testing.assert_allclose(OURS.softmax(x=x, **options), want, **tolerance)
    want = reference("backprop_softmax", [got, dy], **options)
    np.testing.assert_allclose(OURS.backprop_softmax(got, dy, **options), want, **tolerance)
    np.testing.assert_allclose(OURS.backprop_softmax(dY=dy, Y=got, **options), want, **tolerance)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(
            OURS.softmax(x, temperature=-1.0), THEIRS.softmax(x, temperature=-1.0)
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_maxout(dtype):
    x = rng.standard_normal((5, 4, 3)).astype(dtype)
    for each in (x, x[::-1, ::2], np.asfortranarray(x), x[:0]):
        best, which = OURS.maxout(each)
        assert best.dtype == dtype
        np.testing.assert_array_equal(best, each.max(axis=-1))
        np.testing.assert_array_equal(which, each.argmax(axis=-1))
        dy = rng.standard_normal(best.shape).astype(dtype)
        want = np.where(which[..., None] == np.arange(3), dy[..., None], 0)
        for positions in (which, which.astype(np.int32)):
            np.testing.assert_array_equal(OURS.backprop_maxout(dy, positions, 3), want)
    for wrong in (3, -1):
        which = np.zeros((1, 2), int)
        which[0, 1] = wrong
        with pytest.raises(IndexError):
            OURS.backprop_maxout(np.ones((1, 2), dtype), which, 3)


def test_dropout_mask():
    fix_random_seed(0)
    mask = OURS.get_dropout_mask((200, 300), 0.2)
    assert (mask.dtype, mask.shape) == (np.float32, (200, 300))
    np.testing.assert_array_equal(np.unique(mask), np.float32([0, 1 / 0.8]))
    assert abs((mask == 0).mean() - 0.2) < 0.01
    other = OURS.get_dropout_mask((200, 300), 0.2)
    assert not np.array_equal(mask, other)
    fix_random_seed(0)
    np.testing.assert_array_equal(OURS.get_dropout_mask((200, 300), 0.2), mask)
    for drop in (None, 0.0, -1.0, 1.0, 2.0):
        want = THEIRS.get_dropout_mask((2, 3), drop)
        np.testing.assert_array_equal(OURS.get_dropout_mask((2, 3), drop), want)


def test_erf():
    x = np.linspace(-4, 4, 101)
    np.testing.assert_allclose(OURS.erf(x), special.erf(x), rtol=1e-14)
    assert OURS.erf(x.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("layer", [Relu, Gelu, Maxout])
def test_training_gives_the_same_net(layer):
    x = rng.standard_normal((64, 8)).astype(np.float32)
    y = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 64)]
    nets = []
    for name in ("numpy", "fastact"):
        fix_random_seed(0)
        with use_ops(name):
            net = chain(layer(16, dropout=None), Softmax()).initialize(x, y)
        optimizer = thinc.api.Adam(0.01)
        for _ in range(20):
            guess, backprop = net.begin_update(x)
            backprop((guess - y) / len(y))
            net.finish_update(optimizer)
        nets.append(net.predict(x))
    np.testing.assert_allclose(*nets, atol=1e-5)


@pytest.mark.parametrize("name", fa.names("activation", "row", "packed"))
def test_layer_of_any_function(name):
    function = fa.get(name)
    x = rng.uniform(0.1, 2, (4, 6))
    try:
        want = function(x)
    except TypeError:
        pytest.skip("it needs more arguments")
    layer = backend.activation(name)
    assert isinstance(layer, Model)
    y, backprop = layer(x, is_train=True)
    np.testing.assert_array_equal(y, want)
    dy = rng.standard_normal(np.shape(want))
    dx = backprop(dy)
    np.testing.assert_allclose(dx, layer(x, is_train=False)[1](dy))
    step, direction = 1e-6, rng.standard_normal(x.shape)
    rise = function(x + step * direction) - function(x - step * direction)
    if np.abs(rise).max() < 1e-3:  # hardmax jumps
        np.testing.assert_allclose(
            (dx * direction).sum(), (dy * rise).sum() / (2 * step), rtol=1e-5, atol=1e-7
        )


def test_layer_in_a_configuration():
    text = '[net]\n@layers = "fastact.activation.v1"\nfunction = "swish"\n'
    layer = registry.resolve(thinc.api.Config().from_str(text))["net"]
    assert layer.predict(np.array([1.0])) == pytest.approx(1 / (1 + np.exp(-1)))


def test_layer_of_an_own_activation():
    layer = registry.layers.get("fastact.activation.v1")(fa.get("elu", alpha=0.5))
    assert layer.predict(np.array([-1.0])) == pytest.approx(0.5 * np.expm1(-1))

    @fa.activation
    def own(x):
        return x * abs(x)

    y, backprop = backend.activation(own).begin_update(np.array([-2.0, 3.0]))
    np.testing.assert_allclose(y, [-4, 9])
    np.testing.assert_allclose(backprop(np.ones(2)), [4, 6])


def test_a_new_activation_of_the_registry(monkeypatch):
    """A function with a name in thinc's interface replaces that method by itself."""
    known = {name for name, _ in backend._methods()}
    monkeypatch.setattr(Ops, "softsign", Ops.gelu, raising=False)
    monkeypatch.setattr(Ops, "backprop_softsign", Ops.backprop_gelu, raising=False)
    monkeypatch.setattr(thinc.api.NumpyOps, "softsign", Ops.gelu, raising=False)
    monkeypatch.setattr(thinc.api.NumpyOps, "backprop_softsign", Ops.backprop_gelu, raising=False)
    definition = catalogue()["softsign"]
    monkeypatch.setitem(definition.elsewhere, "thinc", "softsign")
    methods = dict(backend._methods())
    assert methods.keys() - known == {"softsign", "backprop_softsign"}
    x = np.array([-1.0, 3.0])
    np.testing.assert_allclose(methods["softsign"](OURS, x), [-0.5, 0.75])
    np.testing.assert_allclose(methods["backprop_softsign"](OURS, x, x), [-0.25, 3 / 16])


def test_threads_and_pickles():
    x = rng.standard_normal((40, 50))
    want, found = reference("gelu", [x]), []
    threads = [threading.Thread(target=lambda: found.append(OURS.gelu(x))) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for each in found:
        np.testing.assert_allclose(each, want, rtol=1e-13)
    assert type(pickle.loads(pickle.dumps(OURS))) is backend.FastactOps


def test_unsupported_thinc_still_works():
    """Every process that uses thinc loads our entry point: an error there would break thinc itself."""
    code = """
import sys
import fastact.backends._requirements as requirements
def require(module):
    raise ImportError("unsupported")
requirements.require = require
from fastact.backends._thinc_ops import FastactOps
assert FastactOps.name == "fastact"
try:
    FastactOps()
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "unsupported"


def test_docstrings():
    assert doctest.testmod(backend).failed == 0
