"""Fused functions of several arrays of one's own: against NumPy, PyTorch and finite differences."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import pickle
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import own_activations as own
import pytest
from fresh_process import assert_clean, run_python
from numpy.typing import NDArray

import fastact as fa

Array = NDArray[Any]
EXAMPLES = Path(__file__).parents[2] / "examples"


@fa.elementwise
def lstm(i: Any, f: Any, g: Any, o: Any, c: Any) -> Any:
    """Compute an LSTM cell."""
    c = fa.math.logistic(f) * c + fa.math.logistic(i) * np.tanh(g)
    return fa.math.logistic(o) * np.tanh(c), c


def logistic(x: Array) -> Any:
    return 1 / (1 + np.exp(-x))


def lstm_in_numpy(i: Array, f: Array, g: Array, o: Array, c: Array) -> Any:
    c = logistic(f) * c + logistic(i) * np.tanh(g)
    return logistic(o) * np.tanh(c), c


def adam_in_numpy(
    w: Array, gradient: Array, mean: Array, square: Array, rate: Any = 1e-3, epsilon: Any = 1e-8
) -> Any:
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.999 * square + 0.001 * gradient * gradient
    return w - rate * mean / (np.sqrt(square) + epsilon), mean, square


def normal(*shape: int, count: int, dtype: Any = np.float64) -> list[Array]:
    rng = np.random.default_rng(sum(shape) + count)
    return [rng.standard_normal(shape).astype(dtype) for _ in range(count)]


def state_of_adam(*shape: int, dtype: Any = np.float64) -> list[Array]:
    *others, square = normal(*shape, count=4, dtype=dtype)
    return [*others, abs(square)]


def by_differences(
    function: Any, arrays: list[Array], weights: list[Array], step: float = 1e-6
) -> list[Array]:
    """Return the gradient of the weighted sum of a function's results with respect to each array."""

    def total(changed: list[Array]) -> float:
        results = function(*changed)
        results = results if isinstance(results, tuple) else (results,)
        return float(sum((w * r).sum() for w, r in zip(weights, results, strict=True)))

    gradients = [np.empty_like(each) for each in arrays]
    for k, gradient in enumerate(gradients):
        for at in np.ndindex(gradient.shape):
            higher, lower = ([each.copy() for each in arrays] for _ in range(2))
            higher[k][at] += step
            lower[k][at] -= step
            gradient[at] = (total(higher) - total(lower)) / (2 * step)
    return gradients


@pytest.mark.parametrize("shape", [(), (1,), (7,), (32, 100), (3, 0), (700, 301)])
def test_values(shape: tuple[int, ...]) -> None:
    arrays = state_of_adam(*shape)
    found, wanted = own.adam_step(*arrays), adam_in_numpy(*arrays)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == shape
        np.testing.assert_allclose(one, other, 1e-13, 1e-15)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-6), ("float16", 2e-3), ("bfloat16", 1.6e-2)]
)
def test_dtypes(dtype: str, tolerance: float) -> None:
    kind = np.dtype(dtype if dtype != "bfloat16" else pytest.importorskip("ml_dtypes").bfloat16)
    arrays = state_of_adam(40, 30, dtype=kind)
    wide = [each.astype(float) for each in arrays]
    for found, wanted in zip(
        own.adam_step(*arrays, rate=0.1), adam_in_numpy(*wide, rate=0.1), strict=True
    ):
        assert found.dtype == kind
        np.testing.assert_allclose(found.astype(float), wanted, tolerance, tolerance)


def test_integers_and_mixed_dtypes() -> None:
    assert own.smooth_distance(3, 1).dtype == np.float64
    mixed = own.smooth_distance(np.float32([1, 2]), np.array([0.5, 1.0]))
    assert mixed.dtype == np.float64
    np.testing.assert_allclose(mixed, np.log1p(np.exp([1.0, 2.0])) / 2, 1e-14)


@pytest.mark.parametrize("shape", [(32, 100), (400, 1000)])
def test_in_place(shape: tuple[int, ...]) -> None:
    """Outputs may be inputs; the gradient stays as it is."""
    arrays = state_of_adam(*shape, dtype=np.float32)
    wanted, gradient = own.adam_step(*arrays), arrays[1].copy()
    w, _, mean, square = arrays
    results = own.adam_step(*arrays, out=(w, mean, square))
    assert all(a is b for a, b in zip(results, (w, mean, square), strict=True))
    for found, other in zip(results, wanted, strict=True):
        np.testing.assert_array_equal(found, other)
    np.testing.assert_array_equal(arrays[1], gradient)


def test_steps_in_place() -> None:
    """Calls that repeat an earlier one with other arrays as outputs."""
    wanted = state_of_adam(20, 30)
    arrays = [each.copy() for each in wanted]
    for step in range(5):
        rate = 0.1 / (1 + step % 2)
        gradient = wanted[1] = np.cos(wanted[0] + step)
        arrays[1][...] = gradient
        w, _, mean, square = arrays
        results = own.adam_step(*arrays, rate=rate, out=(w, mean, square))
        assert results[0] is w
        wanted[0], wanted[2], wanted[3] = adam_in_numpy(*wanted, rate=rate)
        for k in (0, 2, 3):
            np.testing.assert_allclose(arrays[k], wanted[k], 1e-12, 1e-14)
        arrays = [each.copy() for each in arrays]
    kept = arrays[0].copy()
    value, mean, square = own.adam_step(*arrays, out=(None, arrays[2], None))
    assert mean is arrays[2]
    assert value is not arrays[0]
    np.testing.assert_array_equal(arrays[0], kept)
    for wrong in ((w, mean), [w, mean, square]):
        with pytest.raises((TypeError, ValueError), match="adam_step"):
            own.adam_step(*arrays, out=wrong)


def test_overlapping_output() -> None:
    whole = np.linspace(-2, 2, 101)
    wanted = own.smooth_distance(whole[:-1].copy(), 0.5)
    np.testing.assert_array_equal(own.smooth_distance(whole[:-1], 0.5, out=whole[1:]), wanted)


def test_layouts() -> None:
    arrays = state_of_adam(24, 36)
    wanted = own.adam_step(*arrays)
    swapped = [each.astype(">f8") for each in arrays]
    reverse = [each[::-1, ::-1].copy()[::-1, ::-1] for each in arrays]
    fortran = [np.asfortranarray(each) for each in arrays]
    wide = [np.repeat(each, 2, axis=1)[:, ::2] for each in arrays]
    for variant in (swapped, reverse, fortran, wide):
        for found, other in zip(own.adam_step(*variant), wanted, strict=True):
            np.testing.assert_array_equal(found, other)


def test_read_only_and_where() -> None:
    arrays = state_of_adam(8)
    for each in arrays:
        each.flags.writeable = False
    own.adam_step(*arrays)
    with pytest.raises(ValueError, match=r"adam_step: .*read-only"):
        own.adam_step(*arrays, out=(arrays[0], None, None))
    out = np.zeros(8)
    chosen = arrays[0] > 0
    own.smooth_distance(arrays[0], arrays[1], out=out, where=chosen)
    assert (out[chosen] > 0).all()
    assert (out[~chosen] == 0).all()


def test_the_same_bits_with_threads() -> None:
    arrays = normal(700, 301, count=5, dtype=np.float32)
    dh, dc = normal(700, 301, count=2, dtype=np.float32)
    before = fa.get_num_threads()
    found = []
    for threads in (1, 2):
        fa.set_num_threads(threads)
        found.append([*lstm(*arrays), *lstm.backward(dh, dc, *arrays)])
    fa.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_gradients() -> None:
    arrays, weights = normal(3, 4, count=5), normal(4, 3, count=2)
    weights = [each.T for each in weights]
    wanted = by_differences(lstm_in_numpy, arrays, weights)
    h, c, vjp = lstm.vjp(*arrays)
    both = lstm.forward_backward(*arrays, *weights)
    for gradients in (vjp(*weights), vjp(*weights), lstm.backward(*weights, *arrays), both[2:]):
        assert len(gradients) == 5
        for found, other in zip(gradients, wanted, strict=True):
            np.testing.assert_allclose(found, other, 1e-7, 1e-9)
    for found, other in zip((h, c, *both[:2]), lstm_in_numpy(*arrays) * 2, strict=True):
        np.testing.assert_allclose(found, other, 1e-13)


def test_gradients_against_torch() -> None:
    torch = pytest.importorskip("torch")
    arrays, weights = normal(20, 30, count=5), normal(20, 30, count=2)
    i, f, g, o, c = (torch.tensor(each, requires_grad=True) for each in arrays)
    new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(new)
    torch.autograd.backward([h, new], [torch.tensor(each) for each in weights])
    for found, each in zip(lstm.backward(*weights, *arrays), (i, f, g, o, c), strict=True):
        np.testing.assert_allclose(found, each.grad.numpy(), 1e-12, 1e-14)


def test_against_the_optimizer_of_torch() -> None:
    torch = pytest.importorskip("torch")
    module = runpy.run_path(str(EXAMPLES / "optimizers.py"))
    rng = np.random.default_rng(3)
    start, gradients = rng.standard_normal((5, 6)), rng.standard_normal((20, 5, 6))
    for name, peer in (
        ("Adam", lambda p: torch.optim.Adam([p], 0.02)),
        ("Momentum", lambda p: torch.optim.SGD([p], 0.02, 0.9)),
    ):
        w, other = start.copy(), torch.nn.Parameter(torch.tensor(start))
        mine, theirs = module[name]([w], 0.02), peer(other)
        for gradient in gradients:
            mine.step([gradient])
            other.grad = torch.tensor(gradient)
            theirs.step()
        np.testing.assert_allclose(w, other.detach().numpy(), 1e-10, 1e-12)


@pytest.mark.parametrize(
    "shapes", [((3, 4), (4,)), ((4,), (3, 4)), ((3, 1), (1, 4)), ((), (3, 4)), ((2, 3, 4), (3, 1))]
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gradients_of_broadcast_arrays(shapes: Any, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    dy = rng.standard_normal(np.broadcast_shapes(*shapes)).astype(dtype)
    y, vjp = own.smooth_distance.vjp(*arrays, sharpness=3.0)
    np.testing.assert_allclose(y, np.log1p(np.exp(3 * (arrays[0] - arrays[1]))) / 3, 1e-5, 1e-6)
    slope = dy * logistic(3 * (arrays[0] - arrays[1]).astype(float))
    for sign, array, found in zip((1, -1), arrays, vjp(dy), strict=True):
        extra = slope.ndim - array.ndim
        axes = [k for k in range(slope.ndim) if k < extra or array.shape[k - extra] == 1]
        wanted = sign * slope.sum(tuple(axes)).reshape(array.shape)
        assert found.shape == array.shape
        assert found.dtype == dtype
        np.testing.assert_allclose(found, wanted, 1e-5, 1e-6)


def test_parameters_are_numbers_or_arrays_without_gradient() -> None:
    y, target = normal(5, 6, count=2)
    sharpness = np.linspace(1, 2, 6)
    wanted = np.log1p(np.exp(sharpness * (y - target))) / sharpness
    np.testing.assert_allclose(own.smooth_distance(y, target, sharpness), wanted, 1e-13)
    np.testing.assert_allclose(
        own.smooth_distance.bind(sharpness=sharpness)(y, target), wanted, 1e-13
    )
    dy = np.ones((5, 6))
    gradients = own.smooth_distance.backward(dy, y, target, sharpness=sharpness)
    np.testing.assert_allclose(gradients[0], logistic(sharpness * (y - target)), 1e-13)
    assert len(gradients) == 2
    # A net may pass ever new rates.
    for rate in (0.5, 0.25, np.float32(0.25), 1):
        found = own.adam_step(*state_of_adam(6), rate=rate)
        np.testing.assert_allclose(found[0], adam_in_numpy(*state_of_adam(6), rate=rate)[0], 1e-13)


def test_constant_results_and_masks() -> None:
    @fa.elementwise
    def several(x: Any, y: Any) -> Any:
        return x > y, 2.0, np.maximum(x, y), x * 0 + 1

    x, y = np.array([1.0, -2.0, 3.0]), np.array([2.0, -3.0, 3.5])
    greater, two, most, one = several(x, y)
    np.testing.assert_array_equal(greater, [0, 1, 0])
    np.testing.assert_array_equal(two, [2, 2, 2])
    np.testing.assert_array_equal(most, [2, -2, 3.5])
    np.testing.assert_array_equal(one, [1, 1, 1])
    weights = np.array([3.0, 5.0, 7.0])
    dx, dy = several.backward(math.inf, math.nan, weights, 0.0, x, y)
    np.testing.assert_array_equal(dx, [0, 5, 0])
    np.testing.assert_array_equal(dy, [3, 0, 7])


def test_nan_gives_nan() -> None:
    x = np.array([math.nan, 1.0, math.inf])
    dx, dtarget = own.smooth_distance.backward(1.0, x, np.zeros(3))
    assert np.isnan(own.smooth_distance(x, 0)[0])
    assert np.isnan(dx[0])
    assert np.isnan(dtarget[0])
    np.testing.assert_allclose(dx[1:], [logistic(np.float64(2)), 1], 1e-14)


def test_names_of_gradients() -> None:
    """A function may have arrays of the names that gradients have, and parameters of those that options have."""

    @fa.elementwise
    def scaled(dy: Any, y: Any, where: Any = 2.0) -> Any:
        return dy * y * where

    assert scaled.operations["backward"].inputs == ("ddy", "dy", "y")
    dy, y = normal(4, count=2)
    value, vjp = scaled.vjp(dy, y, where=3.0)
    np.testing.assert_allclose(value, 3 * dy * y, 1e-15)
    np.testing.assert_allclose(vjp(np.ones(4)), [3 * y, 3 * dy], 1e-15)


def test_a_vjp_travels() -> None:
    y, target = normal(3, 4, count=2)
    _, vjp = own.smooth_distance.vjp(y, target, sharpness=0.5)
    assert vjp.nbytes == y.nbytes + target.nbytes
    restored = pickle.loads(pickle.dumps(vjp))
    for found, wanted in zip(restored(y), vjp(y), strict=True):
        np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ValueError, match=r"smooth_distance\.vjp: out would overwrite an input"):
        own.smooth_distance.vjp(y, target, out=y)


def test_travels_as_an_activation_does() -> None:
    assert pickle.loads(pickle.dumps(own.adam_step)) is own.adam_step
    bound = pickle.loads(pickle.dumps(own.adam_step.bind(rate=0.5)))
    assert dict(bound.parameters) == {"rate": 0.5, "epsilon": 1e-8}
    assert copy.deepcopy(own.adam_step) is own.adam_step
    assert pickle.loads(pickle.dumps(own.adam_step.ufuncs["forward"])).nout == 3


def test_cloudpickle_takes_it_by_value() -> None:
    cloudpickle = pytest.importorskip("cloudpickle")

    @fa.elementwise(nout=2)
    def inner(a: Any, b: Any, k: Any = 2.0) -> Any:
        both = (a * b * k, a - b)
        return both

    restored = pickle.loads(cloudpickle.dumps(inner.bind(k=3.0)))
    assert restored.ufuncs["forward"].nout == 2
    np.testing.assert_array_equal(restored(2.0, 5.0), [30, -3])


def test_a_second_process_needs_no_compiler(tmp_path: Path) -> None:
    script = """
        import sys
        import numpy as np
        import own_activations as own

        y, vjp = own.smooth_distance.vjp(np.ones(3), np.zeros(3))
        vjp(np.ones(3))
        print("numba" in sys.modules)
    """
    for expected in ("True", "False"):
        process = run_python(script, FASTACT_CACHE=str(tmp_path))
        assert_clean(process)
        assert process.stdout.strip() == expected


def test_signature_and_documentation() -> None:
    parameters = inspect.signature(own.adam_step).parameters
    assert [*parameters][:6] == ["w", "gradient", "mean", "square", "rate", "epsilon"]
    assert parameters["w"].kind is inspect.Parameter.POSITIONAL_ONLY
    assert parameters["rate"].default == 1e-3
    assert str(inspect.getdoc(own.adam_step)).startswith("Take a step of Adam.")
    assert repr(own.adam_step) == "<elementwise 'adam_step'>"


def test_wrong_not_a_function() -> None:
    with pytest.raises(TypeError, match="elementwise: expected a plain function, got <ufunc"):
        fa.elementwise(np.add)


def test_wrong_no_array() -> None:
    with pytest.raises(TypeError, match="elementwise: <lambda> takes no array"):
        fa.elementwise(lambda x=1.0: x)


def test_wrong_star() -> None:
    with pytest.raises(TypeError, match="must take arguments with names of their own"):
        fa.elementwise(lambda *x: x[0])


@pytest.mark.parametrize("make", [fa.activation, fa.elementwise])
def test_wrong_name(make: Any) -> None:
    with pytest.raises(TypeError, match="<lambda> has an argument 'out'"):
        make(lambda x, out=1.0: x * out)


@pytest.mark.parametrize("default", [None, "x", 1j, 10**400, [1.0], np.ones(3)])
@pytest.mark.parametrize("make", [fa.activation, fa.elementwise])
def test_wrong_default(make: Any, default: Any) -> None:
    with pytest.raises(TypeError, match="the default of b in <lambda> must be a number, got"):
        make(lambda x, b=default: x * b)


def test_wrong_method() -> None:
    with pytest.raises(TypeError, match="method has an argument 'self', which methods have"):

        class Net:
            @fa.elementwise
            def method(self, x: Any) -> Any:
                return x


def test_wrong_list() -> None:
    @fa.elementwise(nout=2)
    def listed(a: Any) -> Any:
        return [a, a]

    with pytest.raises(RuntimeError, match="listed: it returns a list; return a tuple"):
        listed(1.0)


@pytest.mark.parametrize("nout", [0, -1])
def test_wrong_nout(nout: int) -> None:
    with pytest.raises(ValueError, match=f"elementwise: nout must be .*{nout}"):
        fa.elementwise(nout=nout)(lambda x: x)
    with pytest.raises(TypeError, match="elementwise: nout must be an integer"):
        fa.elementwise(nout="two")(lambda x: x)  # type: ignore[call-overload]


def test_wrong_returns_of_different_lengths() -> None:
    def either(x: Any, flag: Any = 0.0) -> Any:
        if flag:
            return x
        return x, x

    with pytest.raises(ValueError, match="either returns 1 or 2 results"):
        fa.elementwise(either)


def test_wrong_a_tuple_in_disguise() -> None:
    @fa.elementwise
    def hidden(a: Any) -> Any:
        both = (a, 2 * a)
        return both

    with pytest.raises(RuntimeError, match="hidden: it returns 2 results; pass nout=2"):
        hidden(1.0)


def test_wrong_branch() -> None:
    @fa.elementwise
    def branching(a: Any, b: Any) -> Any:
        return a if b > 0 else -a

    with pytest.raises(RuntimeError, match=r"branching: a kernel cannot branch on b \(line"):
        branching(1.0, 2.0)


def test_wrong_calls() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'square'"):
        own.adam_step(1, 2, 3)
    with pytest.raises(TypeError, match="adam_step: unknown argument 'speed'"):
        own.adam_step(1, 2, 3, 4, speed=2)
    with pytest.raises(ValueError, match=r"smooth_distance\.backward: shapes do not broadcast"):
        own.smooth_distance.backward(1.0, np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match=r"smooth_distance: .*broadcast"):
        own.smooth_distance(np.ones(3), np.ones(4))
    with pytest.raises(TypeError, match=r"smooth_distance\.backward: target has dtype complex"):
        own.smooth_distance.backward(1.0, 2.0, 1j)
    with pytest.raises(TypeError, match="smooth_distance: target has dtype complex"):
        own.smooth_distance(2.0, 1j)
    with pytest.raises(TypeError, match=r"lstm\.vjp: the gradient is a function of dy0, dy1"):
        lstm.vjp(*np.ones(5))[-1](1.0)


@pytest.mark.parametrize("name", ["optimizers", "fused_cell"])
def test_examples_learn(name: str) -> None:
    module = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    if name == "optimizers":
        runs = [module["losses"](module["Momentum"], 0.1), module["losses"](module["Adam"], 0.05)]
    else:
        runs = [module["losses"]()]
    for run in runs:
        first, *others = itertools.islice(run, 150)
        assert others[-1] < first / 10
