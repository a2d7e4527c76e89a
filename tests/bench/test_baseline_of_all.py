"""Every function of the catalogue has a NumPy baseline, and it computes what fastact computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from representatives import only_long

import fastact as fa
from fastact import baseline
from fastact.bench.workloads import Workload

LAYERS = fa.names("activation", "row", "packed")
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def as_tuple(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def agree(ours: Any, theirs: Any, dtype: str) -> None:
    """Check results of one dtype, relative to the largest of each, or to 1."""
    for one, other in zip(as_tuple(ours), as_tuple(theirs), strict=True):
        assert np.shape(one) == np.shape(other)
        largest = max(1.0, float(np.max(np.abs(one))))
        np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE[dtype] * largest)


@pytest.mark.parametrize("dtype", ["float32", *only_long("float64")])
@pytest.mark.parametrize("name", [each for each in LAYERS if each != "gumbel_softmax"])
def test_vjp(name: str, dtype: str) -> None:
    """Value and gradients, in the dtype of the input."""
    random, function = np.random.default_rng(0), fa.get(name)
    x = random.standard_normal((6, 8)).astype(dtype)
    if name == "log1mexp":
        x = abs(x)
    given = function._definition.required_parameters
    y, vjp = function.vjp(x, **given)
    out = np.empty_like(y)
    value, theirs = baseline.get(name).vjp(x, **given, out=out)
    assert value is out
    assert value.dtype == dtype
    agree(y, value, dtype)
    dy = random.standard_normal(y.shape).astype(dtype)
    agree(vjp(dy), theirs(dy), dtype)


@pytest.mark.parametrize("name", fa.names("activation", "row"))
def test_methods(name: str) -> None:
    """The three methods and `vjp` give the same."""
    random, item = np.random.default_rng(1), baseline.get(name)
    x = abs(random.standard_normal((5, 6)))
    given = {"rng": 0} if name == "gumbel_softmax" else fa.get(name)._definition.required_parameters
    y, vjp = item.vjp(x, **given)
    dy = random.standard_normal(y.shape)
    both = item.forward_backward(x, dy, **given)
    agree(item(x, **given), y, "float64")
    agree(both, (y, *as_tuple(vjp(dy))), "float64")
    takes = x if not isinstance(item, baseline.base.ValueBaseline) else y
    if name != "maxout":
        agree(item.backward(dy, takes, **given), both[1:] if len(both) > 2 else both[1], "float64")


def test_gumbel_softmax() -> None:
    """NumPy draws the noise."""
    x = np.zeros((4, 5), np.float32)
    noise = np.random.default_rng(3).gumbel(size=x.shape).astype(np.float32)
    np.testing.assert_allclose(
        baseline.get("gumbel_softmax")(x, rng=3), baseline.softmax(noise), 1e-6
    )


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", fa.names("dropout"))
def test_dropouts(name: str, p: float) -> None:
    """Elements are what fastact makes of those that are kept and of those that are dropped, in the right proportion."""
    x, item = np.ones(100_000), baseline.get(name)
    y, vjp = item.vjp(x, p, rng=4)
    possible = np.unique(fa.get(name)(x[:1000], p, rng=5))
    nearest = possible[np.argmin(np.abs(np.subtract.outer(y, possible)), axis=1)]
    agree(nearest, y, "float64")
    dx = vjp(x)
    assert abs(np.mean(dx == 0) - p) < 0.01
    agree(dx == 0, (y == possible[0]) & (p > 0), "float64")
    for one, other in zip(item.forward_backward(x, x, p, rng=4), (y, dx), strict=True):
        agree(one, other, "float64")
    agree(item(x, p, rng=4), y, "float64")
    agree(item.backward(x, p, rng=4), dx, "float64")
    np.testing.assert_allclose(
        np.unique(dx), np.unique(fa.get(name).backward(x[:1000], p, rng=5)), 1e-12
    )


@pytest.mark.parametrize("name", fa.names("cell"))
def test_cells(name: str) -> None:
    work = Workload.of(name, (6, 24), "float64")
    ours, theirs = (each.vjp(*work.inputs) for each in (fa.get(name), baseline.get(name)))
    agree(ours[:-1], theirs[0], "float64")
    agree(ours[-1](*work.dys), theirs[-1](*work.dys), "float64")


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in fa.names("loss")), ("huber", {"delta": 0.3})]
    + [("sigmoid_binary_cross_entropy", {"pos_weight": 3.0})],
)
def test_losses(name: str, options: dict[str, float]) -> None:
    random = np.random.default_rng(2)
    x, labels = random.standard_normal((6, 8)), random.integers(0, 8, 6)
    arrays: tuple[Any, ...] = (x, random.random((6, 8)))
    if name in ("softmax_cross_entropy", "nll"):
        arrays = (x, labels)
    if name == "cross_entropy":
        arrays = (random.random((6, 8)) + 0.1, labels)
    if name == "linear_cross_entropy":
        arrays = (x, random.standard_normal((8, 8)), labels)
    loss, vjp = fa.get(name).vjp(*arrays, **options)
    item = baseline.get(name)
    value, theirs = item.vjp(*arrays, **options)
    agree(loss, value, "float64")
    agree(item(*arrays, **options), value, "float64")
    agree(vjp(), theirs(), "float64")
    agree(vjp(3.0), theirs(3.0), "float64")
    agree(vjp(3.0), item.backward(3.0, *arrays, **options), "float64")


def test_get() -> None:
    """By hand before by formula; the gelu of `get` takes no bias."""
    assert baseline.is_by_hand("gelu")
    assert not baseline.is_by_hand("snake")
    assert baseline.get("gelu").name == "gelu"
    assert baseline.get("gelu") is not baseline.gelu
    for wrong in ("swisch", "lstm", "names"):
        with pytest.raises(ValueError, match=f"'{wrong}'"):
            baseline.get(wrong)


def test_formula_with_parameters() -> None:
    """Parameters reach the formula."""
    x = np.linspace(-2, 2, 9)
    agree(baseline.get("snake")(x, a=0.5), fa.snake(x, a=0.5), "float64")
    agree(baseline.get("softshrink")(x, lambd=1.0), fa.softshrink(x, lambd=1.0), "float64")
