"""The JAX adapter, against JAX's own functions, finite differences and formulas in NumPy."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import fastact as fa

jax = pytest.importorskip("jax")

import jax.numpy as jnp
import own_activations as own
from jax.test_util import check_grads
from representatives import only_long, with_long

from fastact.backends import jax as fax

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _in_double() -> Any:
    with jax.enable_x64(True):
        yield


def numbers(*shape: int, dtype: Any = np.float64) -> Any:
    return jnp.asarray(RNG.standard_normal(shape), dtype)


def parameters_of(name: str) -> dict[str, float]:
    return fa.get(name)._definition.required_parameters


POINTWISE = [n for n in fa.names("activation") if "value_and_derivative" in fa.get(n).operations]
ROWS = [n for n in fa.names("row") if not fa.get(n)._definition.is_random]
PEERS = [
    (name, fa.get(name)._definition.elsewhere["jax"])
    for name in (*POINTWISE, *ROWS)
    if hasattr(jax.nn, fa.get(name)._definition.elsewhere.get("jax", "-"))
    and "jax" not in fa.get(name).conventions
]


@pytest.mark.parametrize(
    "dtype",
    [np.float32, *only_long(np.float16, np.float64)],
)
@pytest.mark.parametrize(("name", "theirs"), PEERS)
def test_against_jax(name: str, theirs: str, dtype: Any) -> None:
    x = numbers(5, 6, dtype=dtype)
    got = jax.jit(getattr(fax, name))(x)
    axis = {"axis": -1} if fa.get(name).kind == "row" else {}
    wanted = getattr(jax.nn, theirs)(x, **axis)
    assert got.dtype == wanted.dtype == x.dtype
    assert got.shape == wanted.shape
    np.testing.assert_allclose(
        got,
        wanted,
        rtol=8 * float(jnp.finfo(dtype).eps),
        atol=1e-3 if dtype == np.float16 else 1e-6,
    )


@pytest.mark.parametrize("name", with_long(POINTWISE))
def test_derivatives_of_elements(name: str) -> None:
    """Of both orders, in both modes, with parameters that are numbers; at no kink."""
    x = numbers(3, 4)
    function = getattr(fax, name)
    check_grads(lambda x: function(x, **parameters_of(name)), (x,), order=2, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("axis", [0, -1])
def test_gradients_of_rows(name: str, axis: int) -> None:
    x = numbers(3, 4)
    function = getattr(fax, name)
    check_grads(lambda x: function(x, axis=axis), (x,), order=1, modes=["rev"])
    np.testing.assert_array_equal(
        function(x, axis=axis), getattr(fa, name)(np.asarray(x), axis=axis)
    )


SECOND = [name for name in ROWS if getattr(fa.get(name)._definition, "second_order", None)]


@pytest.mark.parametrize("name", ROWS)
def test_second_order_of_rows(name: str) -> None:
    x, function = numbers(3, 4), getattr(fax, name)
    if name in SECOND:
        check_grads(lambda x: function(x, axis=0, temperature=0.7), (x,), 2, ["rev"])
        return
    with pytest.raises(NotImplementedError, match=f"{name}: there is no second derivative"):
        jax.grad(lambda x: jax.grad(lambda x: function(x)[0].sum())(x).sum())(x)


def test_second_order_through_python() -> None:
    x, bias = numbers(5, 6), numbers(6)
    check_grads(lambda x, b: fax.gelu(x, bias=b, residual=x), (x, bias), 2, ["rev"])
    masked = jax.jit(lambda x: fax.softmax(x, where=jnp.asarray([True] * 5 + [False])))
    check_grads(masked, (x,), 2, ["rev"])
    with pytest.raises(NotImplementedError, match="layer_norm: there is no second derivative"):
        jax.grad(lambda x: jax.grad(lambda x: fax.layer_norm(x).sum())(x).sum())(x)


def test_under_jit_no_python_runs() -> None:
    text = jax.jit(jax.grad(lambda x: fax.elu(x, 0.5).sum())).lower(numbers(7)).as_text()
    assert "fastact.elu_value_and_derivative" in text
    assert "callback" not in text


def test_parameters_do_not_mix() -> None:
    """Each value of a parameter has a kernel call of its own."""
    x = numbers(9)
    for alpha in (0.5, 2.0, 0.5):
        np.testing.assert_allclose(
            jax.jit(fax.elu, static_argnums=1)(x, alpha), jax.nn.elu(x, alpha), 1e-14
        )


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0), (1,), (2, 3, 4)])
def test_shapes(shape: tuple[int, ...]) -> None:
    x = numbers(*shape)
    np.testing.assert_allclose(jax.jit(fax.silu)(x), jax.nn.silu(x), 1e-13)
    if shape and shape[-1]:
        np.testing.assert_allclose(jax.jit(fax.softmax)(x), jax.nn.softmax(x), 1e-13)
        np.testing.assert_allclose(fax.logsumexp(x), jax.nn.logsumexp(x, -1), 1e-13)


def test_vmap_and_scan() -> None:
    x = numbers(4, 5, 6)
    for function in (fax.mish, fax.softmax, fax.logsumexp, fax.log_softmax):
        np.testing.assert_allclose(jax.vmap(function)(x), function(x), 1e-14)
        np.testing.assert_allclose(
            jax.vmap(function, in_axes=2)(x), function(jnp.moveaxis(x, 2, 0)), 1e-14
        )
        gradient = jax.vmap(jax.grad(lambda x, function=function: function(x).sum()))(x)
        np.testing.assert_allclose(
            gradient, jax.grad(lambda x, function=function: function(x).sum())(x), 1e-12
        )
    _, states = jax.lax.scan(lambda h, x: (fax.tanh(h + x), h), jnp.zeros(6), x[0])
    wanted = jax.lax.scan(lambda h, x: (jnp.tanh(h + x), h), jnp.zeros(6), x[0])[1]
    np.testing.assert_allclose(states, wanted, 1e-13)


def test_through_python() -> None:
    """Fused options, arrays as parameters, gates, normalizations, losses."""
    x, bias, weight = numbers(5, 6), numbers(6), abs(numbers(6))
    check_grads(lambda x, b: fax.gelu(x, bias=b, residual=x), (x, bias), 1, ["rev"])
    check_grads(lambda x, w: fax.prelu(x, w), (x, weight), 1, ["rev"])
    check_grads(lambda x, y: fax.swiglu(x, y), (x, x + 1), 1, ["rev"])
    check_grads(lambda x, w, b: fax.layer_norm(x, weight=w, bias=b), (x, weight, bias), 1, ["rev"])
    labels = jnp.array([0, 5, 1, 2, 2])

    def loss(x: Any, labels: Any) -> Any:
        return fax.softmax_cross_entropy(x, labels)

    def wanted(x: Any, labels: Any) -> Any:
        return -jax.nn.log_softmax(x)[jnp.arange(5), labels].mean()

    for got, expected in zip(
        jax.jit(jax.value_and_grad(loss))(x, labels),
        jax.value_and_grad(wanted)(x, labels),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, 1e-12)
    np.testing.assert_allclose(
        jax.vmap(loss)(x[None], labels[None]), wanted(x, labels)[None], 1e-12
    )
    masked = jax.jit(lambda x, where: fax.softmax(x, where=where))(x, x > -1)
    np.testing.assert_allclose(masked, jax.nn.softmax(x, where=x > -1), 1e-12)


def test_traced_seed() -> None:
    x = jnp.ones((50, 60))
    drop = jax.jit(lambda x, key: fax.dropout(x, 0.25, rng=jax.random.bits(key)))
    one, other = drop(x, jax.random.key(0)), drop(x, jax.random.key(1))
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(np.unique(one), [0, 1 / 0.75])
    gradient = jax.grad(lambda x: fax.dropout(x, 0.25, rng=7).sum())(x)
    np.testing.assert_array_equal(gradient, fax.dropout(x, 0.25, rng=7))


def test_bfloat16_and_integers() -> None:
    x = numbers(5, 6).astype(jnp.bfloat16)
    assert fax.gelu(x).dtype == jnp.bfloat16
    np.testing.assert_allclose(
        fax.gelu(x).astype(float), jax.nn.gelu(x.astype(float), approximate=False), 0.01, 1e-3
    )
    assert fax.sigmoid(jnp.arange(3)).dtype == jnp.result_type(float)


def test_threads_at_once() -> None:
    """Large arrays in several Python threads: XLA's threads call kernels that use fastact's."""
    x = numbers(400, 1000)
    f = jax.jit(lambda x: fax.softmax(fax.gelu(x)))
    wanted, found = np.asarray(f(x)), []
    jobs = [threading.Thread(target=lambda: found.append(np.asarray(f(x)))) for _ in range(8)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    for each in found:
        np.testing.assert_array_equal(each, wanted)
    assert len(found) == 8


def test_own_activations() -> None:
    function = fax.wrap(own.swishy)
    check_grads(function, (numbers(4),), 2)
    bound = fax.wrap(fa.get("elu", alpha=0.5))
    np.testing.assert_allclose(bound(numbers(3) * 0 - 1), 0.5 * np.expm1(-1), 1e-14)


def test_newcomer(newcomer: str) -> None:
    assert newcomer in dir(fax)
    x = numbers(7)
    np.testing.assert_allclose(getattr(fax, newcomer)(x), x * x / 2, 1e-15)
    np.testing.assert_allclose(jax.grad(lambda x: fax.new_one(x).sum())(x), x, 1e-15)


def test_wrong_calls() -> None:
    x = numbers(3)
    with pytest.raises(TypeError, match="gelu: got an unexpected keyword argument 'foo'"):
        fax.gelu(x, foo=1)
    with pytest.raises(AttributeError, match="no attribute 'gleu'"):
        _ = fax.gleu
    with pytest.raises(NotImplementedError, match="gelu has no third derivative"):
        jax.grad(jax.grad(jax.grad(fax.gelu)))(1.0)
    with pytest.raises(ValueError, match="alpha must be other than 0"):
        fax.celu(x, alpha=0.0)
