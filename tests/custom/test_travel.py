"""Activations of one's own between processes: by name as functions travel, by value where cloudpickle takes them so."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import own_activations as own
import pytest
from fresh_process import assert_clean, run_python

import fastact as fa

X = np.linspace(0.1, 2, 7)


def nested(factor: float) -> Any:
    @fa.activation(formula="factor x n")
    def inner(x: Any, n: Any = 2) -> Any:
        return factor * x * n

    return inner


def test_by_name() -> None:
    for item in (own.pair, own.with_learnable):
        assert pickle.loads(pickle.dumps(item)) is item
    bound = own.swishy.bind(beta=3.0)
    data = pickle.dumps(bound)
    assert len(data) < 200
    restored = pickle.loads(data)
    assert restored.parameters == {"beta": 3.0}
    np.testing.assert_array_equal(restored(X), bound(X))
    assert pickle.loads(pickle.dumps(own.with_learnable.bind(a=2.0))).learnable == ("a",)


def test_copies() -> None:
    inner = nested(4.0)
    bound = inner.bind(n=3)
    for item in (inner, bound):
        assert copy.copy(item) is item
        assert copy.deepcopy([item])[0] is item


def test_what_has_no_name_says_so() -> None:
    with pytest.raises((AttributeError, pickle.PicklingError), match=r"Can.t .*inner"):
        pickle.dumps(nested(4.0))
    with pytest.raises((AttributeError, pickle.PicklingError), match=r"Can.t .*<lambda>"):
        pickle.dumps(fa.activation(lambda x: 2 * x))


def test_cloudpickle_in_the_same_process() -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    assert pickle.loads(cloudpickle.dumps(own.swishy)) is own.swishy
    inner = nested(4.0).bind(n=5)
    restored = pickle.loads(cloudpickle.dumps(inner))
    assert (restored.name, restored.formula) == ("inner", "factor x n")
    np.testing.assert_array_equal(restored(X), 20 * X)
    again = pickle.loads(cloudpickle.dumps(restored))
    np.testing.assert_array_equal(again(X), 20 * X)


SENDER = """
    import pathlib, pickle
    import cloudpickle
    import numpy as np
    import fastact as fa

    K = 3.0

    def helper(x):
        return x * K

    @fa.activation(learnable="a", formula="f", kinks={"0": "1"})
    def mine(x, a=0.5):
        "Say something."
        return helper(x) * fa.math.tanh(a * x)

    def nested(factor):
        @fa.activation
        def inner(x, n=2):
            return factor * mine(x) * n
        return inner

    items = [mine, mine.bind(a=2.0), nested(4.0), fa.activation(lambda x, k=2.0: x * k).bind(k=3)]
    assert pickle.loads(pickle.dumps(mine)) is mine
    x = np.linspace(0.1, 2, 7)
    data = [(cloudpickle.dumps(item), item.value_and_derivative(x)) for item in items]
    pathlib.Path("data").write_bytes(pickle.dumps(data))
"""
RECEIVER = """
    import pathlib, pickle, sys
    import numpy as np

    data = pickle.loads(pathlib.Path("data").read_bytes())
    x = np.linspace(0.1, 2, 7)
    for pickled, wanted in data:
        item = pickle.loads(pickled)
        np.testing.assert_array_equal(item.value_and_derivative(x), wanted)
    mine = pickle.loads(data[0][0])
    assert (mine.learnable, mine.formula, dict(mine.kinks)) == (("a",), "f", {"0": "1"})
    assert "Say something." in mine.__doc__
    print("fastact.runtime.compiler" in sys.modules)
"""


def test_cloudpickle_to_another_process(tmp_path: Path) -> None:
    """As dask, joblib and ray send what stands in ``__main__``: the worker finds the kernels in the cache."""
    pytest.importorskip("cloudpickle")
    cache = str(tmp_path / "cache")
    assert_clean(run_python(SENDER, path=tmp_path, FASTACT_CACHE=cache))
    assert assert_clean(run_python(RECEIVER, path=tmp_path, FASTACT_CACHE=cache)) == "False\n"
