"""scikit-learn's perceptrons with our kernels: against scikit-learn's own, and NumPy formulas in float64."""

import doctest
import pickle
import threading

import cloudpickle
import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.5")
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_digits, make_regression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import _base, _multilayer_perceptron
from sklearn.utils.estimator_checks import check_estimator

import fastact as fa
from fastact.backends import sklearn as backend

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, Y = load_digits(return_X_y=True)
X, Y = X[:300] / 16, Y[:300]
OWN = [dict(_base.ACTIVATIONS), dict(_base.DERIVATIVES)]
rng = np.random.default_rng(0)


def is_patched():
    return [_base.ACTIVATIONS, _base.DERIVATIVES] != OWN


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OWN[0])
def test_values_and_derivatives(name, dtype):
    z, delta = rng.standard_normal((2, 200, 11)).astype(dtype)
    want, dwant = z.astype(np.longdouble), delta.astype(np.longdouble)
    OWN[0][name](want)
    with backend.patched():
        assert _base.ACTIVATIONS[name](z) is None
        np.testing.assert_allclose(z, want, rtol=4 * np.finfo(dtype).eps)
        if name in OWN[1]:
            OWN[1][name](z.astype(np.longdouble), dwant)
            assert _base.DERIVATIVES[name](z, delta) is None
    np.testing.assert_allclose(delta, dwant, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("solver", ["adam", "lbfgs", "sgd"])
@pytest.mark.parametrize("name", OWN[1])
def test_patched_training(name, solver):
    net = neural_network.MLPClassifier(
        (20, 10), activation=name, solver=solver, max_iter=12, random_state=0
    )
    want = clone(net).fit(X, Y)
    with backend.patched():
        got = clone(net).fit(X, Y)
        proba = got.predict_proba(X)
    np.testing.assert_allclose(got.loss_, want.loss_, rtol=1e-6)
    np.testing.assert_allclose(proba, want.predict_proba(X), atol=1e-6)


def test_all_tables_are_replaced():
    """The methods that look up activations are those that we replace, and these tables those that they read."""
    readers = {
        name
        for name, method in vars(_multilayer_perceptron.BaseMultilayerPerceptron).items()
        if {"ACTIVATIONS", "DERIVATIVES"}
        & set(getattr(getattr(method, "__code__", None), "co_names", ()))
    }
    assert readers == {name for name in vars(backend._AnyActivation) if not name.startswith("__")}
    assert _multilayer_perceptron.ACTIVATIONS is _base.ACTIVATIONS
    assert _multilayer_perceptron.DERIVATIVES is _base.DERIVATIVES


def test_patch_and_unpatch():
    assert not is_patched()
    backend.unpatch()
    backend.patch()
    backend.patch()
    assert is_patched()
    with backend.patched():
        backend.unpatch()
        assert is_patched()
    assert not is_patched()


def test_patched_is_undone_by_the_outermost_block():
    with backend.patched():
        with pytest.raises(ZeroDivisionError), backend.patched():
            raise ZeroDivisionError
        assert is_patched()
    assert not is_patched()
    backend.patch()
    with backend.patched():
        pass
    assert is_patched()
    backend.unpatch()
    assert not is_patched()


def test_patched_in_threads():
    entered, leave, left = (threading.Event() for _ in range(3))

    def other():
        with backend.patched():
            entered.set()
            leave.wait(60)
        left.set()

    thread = threading.Thread(target=other)
    with backend.patched():
        thread.start()
        assert entered.wait(60)
    assert is_patched()
    leave.set()
    assert left.wait(60)
    thread.join()
    assert not is_patched()


def test_what_the_registry_lacks_stays(monkeypatch):
    monkeypatch.setattr(backend, "names", lambda: ["relu"])
    monkeypatch.setattr(backend, "aliases", dict)
    with backend.patched():
        changed = {n for n in OWN[0] if _base.ACTIVATIONS[n] is not OWN[0][n]}
    assert changed == {"relu"}


def numeric_gradient(net, loss, step=1e-6):
    """Return the gradient of the loss with respect to the first weights, by central differences."""
    gradient = np.empty_like(net.coefs_[0])
    for index in np.ndindex(gradient.shape):
        losses = []
        for change in (step, -step):
            net.coefs_[0][index] += change
            losses.append(loss())
            net.coefs_[0][index] -= change
        gradient[index] = (losses[0] - losses[1]) / (2 * step)
    return gradient


def is_usable(function):
    """Whether it takes one array of any numbers, and keeps its shape."""
    x = np.array([[-1.0, 0.5], [2.0, -0.1], [0.3, 0.2]])
    try:
        y = function(x)
    except (TypeError, ValueError):
        return False
    return np.shape(y) == x.shape and np.isfinite(y).all()


KEEP_SHAPE = [
    name
    for name in fa.names("activation", "row", "normalization")
    if is_usable(fa.get(name)) and name not in {"hardmax", "gumbel_softmax"}
]


@pytest.mark.parametrize("name", KEEP_SHAPE)
def test_gradient_of_any_activation(name):
    x, y = make_regression(7, 3, random_state=0)
    y = (y / 100)[:, None]
    net = backend.MLPRegressor(
        hidden_layer_sizes=(5, 4), activation=name, alpha=0, max_iter=1, random_state=1
    )
    net.fit(x, y.ravel())
    # scikit-learn's private backward pass, whose signature has grown since 1.5.
    lists = [None] * 3, [np.empty_like(c) for c in net.coefs_], [None] * 3

    def backprop():
        weights = (None,) if "sample_weight" in net._backprop.__code__.co_varnames else ()
        return net._backprop(x, y, *weights, [x, None, None, None], *lists)

    loss, gradients, _ = backprop()
    want = numeric_gradient(net, lambda: np.mean((net.predict(x) - y.ravel()) ** 2) / 2)
    np.testing.assert_allclose(loss, np.mean((net.predict(x) - y.ravel()) ** 2) / 2)
    np.testing.assert_allclose(backprop()[1][0], want, rtol=1e-4, atol=1e-7)
    assert gradients is lists[1]


@pytest.mark.parametrize("name", OWN[1])
def test_estimators_equal_scikit_learn(name):
    options = {"activation": name, "hidden_layer_sizes": (15,), "max_iter": 10, "random_state": 0}
    want = neural_network.MLPClassifier(**options).fit(X, Y)
    got = backend.MLPClassifier(**options).fit(X, Y)
    np.testing.assert_allclose(got.predict_proba(X), want.predict_proba(X), atol=1e-8)
    assert not is_patched()


@fa.activation
def doubled_softsign(x, scale=2.0):
    return scale * x / (1 + abs(x))


@pytest.mark.parametrize(
    "activation",
    ["swish", fa.gelu, fa.get("elu", alpha=0.5), fa.get("elu", alpha=-0.5), doubled_softsign],
    ids=str,
)
def test_life_of_an_estimator(activation):
    net = backend.MLPClassifier(
        (12,), activation=activation, max_iter=5, warm_start=True, random_state=0
    )
    net = clone(net).fit(X, Y)
    for copy in (pickle.loads(pickle.dumps(net)), cloudpickle.loads(cloudpickle.dumps(net))):
        np.testing.assert_array_equal(copy.predict_proba(X), net.predict_proba(X))
        np.testing.assert_array_equal(
            copy.partial_fit(X, Y).coefs_[0],
            pickle.loads(pickle.dumps(net)).partial_fit(X, Y).coefs_[0],
        )
    before = net.loss_
    assert net.fit(X, Y).loss_ < before
    early = clone(net).set_params(early_stopping=True, warm_start=False).fit(X, Y)
    assert len(early.validation_scores_) == 5


def test_negative_alpha():
    """A negative alpha has no derivative of the output: elu is not injective then."""
    x = np.linspace(-3, 3, 12).reshape(6, 2)
    for alpha in (0.5, -0.5):
        _, activate, differentiate = backend._adapted(fa.get("elu", alpha=alpha))
        z, delta = x.copy(), np.ones_like(x)
        activate(z)
        differentiate(z, delta)
        np.testing.assert_allclose(delta, np.where(x > 0, 1, alpha * np.exp(x)), rtol=1e-14)


def test_nothing_is_kept_after_training():
    function = fa.get("gelu").bind()
    backend.MLPClassifier(activation=function, max_iter=2).fit(X, Y)
    (kept,) = {backend._adapted(function)[k].__self__ for k in (1, 2)}
    assert kept._vjps == {}


def test_grid_search_over_names():
    net = backend.MLPClassifier((8,), max_iter=3, random_state=0)
    search = GridSearchCV(net, {"activation": ["mish", "relu6"]}, cv=2, n_jobs=2).fit(X, Y)
    assert search.best_params_["activation"] in {"mish", "relu6"}


@pytest.mark.parametrize(
    ("activation", "error", "message"),
    [
        ("no_such", ValueError, "there is no function 'no_such'"),
        ("threshold", ValueError, "activation threshold: bind a value to 'threshold'"),
        ("glu", ValueError, "activation glu does not keep the shape"),
        ("logsumexp", ValueError, "activation logsumexp does not keep the shape"),
        (["relu"], TypeError, "a name or function of fastact"),
        (None, TypeError, "a name or function of fastact"),
        (np.tanh, TypeError, "a name or function of fastact"),
    ],
)
def test_refused(activation, error, message):
    with pytest.raises(error, match=message):
        backend.MLPClassifier(activation=activation).fit(X, Y)


def test_own_activation_is_accepted_after_import():
    @fa.activation
    def fresh(x):
        return x * fa.math.logistic(2 * x)

    net = backend.MLPRegressor(
        hidden_layer_sizes=6, activation=fresh, max_iter=3, random_state=0
    ).fit(X, Y)
    h = X @ net.coefs_[0] + net.intercepts_[0]
    h = h / (1 + np.exp(-2 * h))
    np.testing.assert_allclose(net.predict(X), (h @ net.coefs_[1] + net.intercepts_[1]).ravel())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("estimator", [backend.MLPClassifier, backend.MLPRegressor])
def test_check_estimator(estimator, activation):
    check_estimator(estimator(activation=activation, max_iter=100))


def test_float32_and_readonly():
    x = X.astype(np.float32)
    x.flags.writeable = False
    net = backend.MLPClassifier((9,), activation="mish", max_iter=3, random_state=0).fit(x, Y)
    assert {c.dtype for c in net.coefs_} == {np.dtype(np.float32)}
    assert net.predict_proba(x).dtype == np.float32


def test_docstrings():
    assert doctest.testmod(backend).failed == 0
