"""Every function as a primitive of HIPS autograd, by its own `check_grads` and against its own functions."""

from __future__ import annotations

import doctest
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("autograd")

import autograd.numpy as anp
from autograd import elementwise_grad, grad, hessian, jacobian
from autograd.scipy.special import expit, logsumexp
from autograd.test_util import check_grads
from cases import POINTWISE
from own_activations import swishy

import fastact as fa
from fastact.backends import autograd as fad

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 6)) + 0.03
LABELS = RNG.integers(0, 6, 4)
SECOND_ORDER_ROWS = ["softmax", "log_softmax", "softmin", "logsumexp", "logmeanexp"]


@pytest.fixture(autouse=True)
def seeded() -> None:
    np.random.seed(0)  # noqa: NPY002 - that of check_grads


@pytest.mark.parametrize("name", POINTWISE)
def test_activations(name: str) -> None:
    function = fa.get(name)
    given = function._definition.required_parameters
    bound = {key: value for key, value in given.items() if key in function.learnable}
    others = {key: value for key, value in given.items() if key not in bound}
    primitive = fad.wrap(function.bind(**bound))
    check_grads(lambda x: primitive(x, **others), modes=["fwd", "rev"], order=2)(abs(X))
    if function.limits[0] != "nan":
        check_grads(lambda x: primitive(x, **others), modes=["fwd", "rev"], order=2)(-abs(X))


@pytest.mark.parametrize("name", SECOND_ORDER_ROWS)
@pytest.mark.parametrize("options", [{}, {"axis": 0, "temperature": 0.7}, {"axis": None}])
def test_rows(name: str, options: Any) -> None:
    modes = ["fwd", "rev"] if fa.get(name)._definition.is_reduced else ["rev"]
    check_grads(lambda x: getattr(fad, name)(x, **options), modes=modes, order=2)(X)


def test_several_inputs() -> None:
    def fused(x: Any, bias: Any, residual: Any) -> Any:
        return fad.gelu(x, bias=bias, residual=residual, scale=0.5, dropout=0.4, rng=3)

    check_grads(fused, (0, 1, 2), modes=["rev"], order=2)(X, X[0], X)
    check_grads(fad.prelu, (0, 1), modes=["rev"], order=1)(X, X[0])
    check_grads(fad.swiglu, (0, 1), modes=["rev"], order=1)(X, X[::-1])
    check_grads(lambda x, w, b: fad.layer_norm(x, weight=w, bias=b), (0, 1, 2), ["rev"], 1)(
        X, X[0], X[1]
    )
    check_grads(lambda g, c: fad.lstm_cell(g, c)[0] * fad.lstm_cell(g, c)[1], (0, 1), ["rev"], 1)(
        X[:, :4], X[:, 4:5]
    )
    check_grads(lambda x: fad.softmax_cross_entropy(x, LABELS), modes=["rev"], order=1)(X)
    check_grads(lambda x: fad.maxout(x, 3), modes=["rev"], order=1)(X)


def test_own_functions() -> None:
    @fa.elementwise
    def product(a: Any, b: Any, c: Any = 2.0) -> Any:
        return a * b + c

    check_grads(fad.wrap(swishy), modes=["fwd", "rev"], order=2)(X)
    check_grads(fad.wrap(product), (0, 1), modes=["rev"], order=1)(X, X[0])
    elu = fad.wrap(fa.get("elu", alpha=0.5))
    np.testing.assert_allclose(elementwise_grad(elu)(X), np.where(X > 0, 1, 0.5 * np.exp(X)))
    with pytest.raises(TypeError, match="wrap takes a function of fastact, got <ufunc 'tanh'>"):
        fad.wrap(np.tanh)


def test_against_autograd() -> None:
    for ours, theirs in ((fad.tanh, anp.tanh), (fad.sigmoid, expit), (fad.logsumexp, logsumexp)):
        for of in (grad, jacobian, hessian):
            f, g = (lambda x, h=h: anp.sum(h(x) ** 2) for h in (ours, theirs))
            np.testing.assert_allclose(of(f)(X[0]), of(g)(X[0]), rtol=1e-11, atol=1e-13)
    f = lambda x: anp.sum(fad.softmax(fad.gelu(x) @ X.T, causal=True) ** 2)  # noqa: E731
    check_grads(f, modes=["rev"], order=2)(X)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_types_and_layouts(dtype: Any) -> None:
    x = X.astype(dtype)
    for view in (x, x.T, x[::-2, ::2], np.asfortranarray(x), x[:0], x[0, 0]):
        found = elementwise_grad(fad.mish)(view)
        assert found.dtype == dtype
        assert np.shape(found) == np.shape(view)
        np.testing.assert_allclose(found, fa.mish.derivative(view), rtol=2e-3)
    assert grad(fad.gelu)(0.0) == 0.5
    assert np.isnan(grad(fad.gelu)(np.nan))


def test_untraced_calls_are_ordinary() -> None:
    out = np.empty_like(X)
    assert fad.gelu(X, out=out) is out
    np.testing.assert_array_equal(out, fa.gelu(X))
    assert fad.swish.__name__ == "silu"
    assert fad.gelu.__doc__ == fa.gelu.__doc__
    assert {*fa.names(), "swish", "wrap"} <= {*dir(fad), "swish"}


def test_page_and_docstrings() -> None:
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    for found in (*finder.find(fad), *finder.find(fad.wrap)):
        assert runner.run(found).failed == 0
    text = (Path(__file__).parents[2] / "docs/backends/autograd.md").read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        exec(block, {})


def test_wrong_calls() -> None:
    cases = [
        (
            lambda x: fad.elu(X, alpha=x),
            TypeError,
            "elu: there is no gradient with respect to 'alpha'",
        ),
        (lambda x: fad.elu(x, out=X), TypeError, "elu: a call on a tape takes no 'out'"),
        (lambda x: fad.elu(x, beta=1), TypeError, "elu: got an unexpected keyword argument 'beta'"),
    ]
    for call, kind, said in cases:
        with pytest.raises(kind, match=said):
            grad(call)(1.0)
    with pytest.raises(NotImplementedError, match="sparsemax: there is no second derivative"):
        hessian(lambda x: anp.sum(fad.sparsemax(x) ** 2))(X[0])
    with pytest.raises(NotImplementedError, match="tanh: there is no third derivative"):
        grad(grad(grad(fad.tanh)))(1.0)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = fad.nothing
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grad(lambda x: anp.sum(fad.relu(x)))(X)
