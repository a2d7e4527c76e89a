"""pandas: index, columns, dtypes and missing values are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastact as fa

pytest.importorskip("pandas")

import pandas as pd
from array_cases import Case, check

import fastact.backends.pandas as fp

KINDS = ["float32", "float64", "Float32", "Float64"]


def framed(array: Any) -> Any:
    if array.ndim == 1:
        labels = "uvwxyz" if len(array) == 6 else "abcdefgh"
        return pd.Series(array, index=list(labels)[: len(array)])
    columns = list("abcdefgh") if array.shape[1] == 8 else None
    return pd.DataFrame(array, index=list("uvwxyz") if len(array) == 6 else None, columns=columns)


def plain(result: Any) -> Any:
    assert np.ndim(result) == 0 or isinstance(result, pd.Series | pd.DataFrame)
    return np.asarray(result)


def test_every_operation(case: Case) -> None:
    check(case, getattr(fp, case.name), framed, plain)


@pytest.fixture(params=KINDS)
def frame(request: pytest.FixtureRequest) -> Any:
    values = np.random.default_rng(0).standard_normal((4, 3))
    return pd.DataFrame(values, index=list("wxyz"), columns=["a", "b", "c"]).astype(request.param)


def same_labels_and_kind(result: Any, frame: Any) -> None:
    pd.testing.assert_index_equal(result.index, frame.index)
    pd.testing.assert_index_equal(result.columns, frame.columns)
    pd.testing.assert_series_equal(result.dtypes, frame.dtypes)


def test_labels_and_kinds(frame: Any) -> None:
    x = frame.to_numpy(dtype=float)
    y, d = fp.tanh.value_and_derivative(frame)
    for result, right in ((y, np.tanh(x)), (d, 1 - np.tanh(x) ** 2), (fa.tanh(frame), np.tanh(x))):
        same_labels_and_kind(result, frame)
        np.testing.assert_allclose(result.to_numpy(dtype=float), right, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("axis", "number"), [("columns", 1), (1, 1), ("index", 0), (0, 0), (-1, 1)]
)
def test_rows_along_either_axis(frame: Any, axis: Any, number: int) -> None:
    x = frame.to_numpy(dtype=float)
    y = fp.softmax(frame, axis=axis)
    same_labels_and_kind(y, frame)
    e = np.exp(x)
    right = e / e.sum(number, keepdims=True)
    np.testing.assert_allclose(y.to_numpy(dtype=float), right, rtol=1e-5)
    reduced = fp.logsumexp(frame, axis=axis)
    pd.testing.assert_index_equal(reduced.index, frame.axes[1 - number])
    assert reduced.dtype == frame.dtypes.iloc[0]
    np.testing.assert_allclose(reduced.to_numpy(dtype=float), np.log(e.sum(number)), rtol=1e-5)


@pytest.mark.parametrize("kind", ["Float32", "Float64", "Int64"])
def test_missing_values_stay_missing(kind: str) -> None:
    series = pd.Series([1, None, 3], dtype=kind, name="q", index=list("abc"))
    for result in (
        fp.relu(series),
        fp.relu.backward(series, series),
        fp.relu.value_and_derivative(series)[1],
    ):
        assert list(result.isna()) == [False, True, False]
        assert result.name == "q"
        assert str(result.dtype) == kind.replace("Int", "Float")
    frame = pd.DataFrame({"a": [1.0, None], "b": [1.0, 2.0]}, dtype="Float64")
    y = fp.softmax(frame, axis="columns")
    assert list(y.a.isna()) == list(y.b.isna()) == [False, True]
    assert y.loc[0, "a"] == 0.5


def test_arrow() -> None:
    pytest.importorskip("pyarrow")
    series = pd.Series([1.0, None, -3.0], dtype="float[pyarrow]")
    y, d = fp.relu.value_and_derivative(series)
    assert str(y.dtype) == str(d.dtype) == str(fa.relu(series).dtype) == "float[pyarrow]"
    assert y.isna().tolist() == [False, True, False]


def test_columns_of_several_kinds() -> None:
    frame = pd.DataFrame({"a": pd.array([1, None], "Float32"), "b": [1.0, 2.0], "c": [3, 4]})
    y = fp.softmax(frame)
    assert (
        list(map(str, y.dtypes)) == ["Float32", "float64", "float64"]
        or str(y.dtypes["a"]) == "Float64"
    )
    np.testing.assert_allclose(y.loc[0].astype(float).sum(), 1)


def test_what_fastact_does_by_itself(frame: Any) -> None:
    x = frame.to_numpy(dtype=float)
    same_labels_and_kind(fa.gelu(frame), frame)
    column = fa.relu.backward(frame["a"], frame["b"])
    assert column.dtype == frame.dtypes["a"]
    np.testing.assert_allclose(column.to_numpy(dtype=float), x[:, 0] * (x[:, 1] > 0), rtol=1e-6)
    y, _ = fa.relu.value_and_derivative(frame["a"])
    np.testing.assert_allclose(y.to_numpy(dtype=float), np.maximum(x[:, 0], 0), rtol=1e-6)
    assert isinstance(fa.gelu(pd.Index([1.0, 2.0])), pd.Index)


def test_bias_and_gradients_later(frame: Any) -> None:
    x = frame.to_numpy(dtype=float)
    _, vjp = fp.tanh.vjp(frame, bias=frame.loc["w"])
    dx, dbias = vjp(frame)
    right = x * (1 - np.tanh(x + x[0]) ** 2)
    same_labels_and_kind(dx, frame)
    pd.testing.assert_index_equal(dbias.index, frame.columns)
    np.testing.assert_allclose(dx.to_numpy(dtype=float), right, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(dbias.to_numpy(dtype=float), right.sum(0), rtol=1e-4, atol=1e-6)
    loss = fp.softmax_cross_entropy(frame, pd.Series([0, 1, 2, 0], frame.index))
    np.testing.assert_allclose(
        loss, np.mean(np.log(np.exp(x).sum(1)) - x[range(4), [0, 1, 2, 0]]), rtol=1e-5
    )


def test_empty() -> None:
    assert fp.softmax(pd.DataFrame(columns=["a", "b"], dtype=float)).shape == (0, 2)
    assert len(fp.gelu(pd.Series([], dtype="Float64"))) == 0


def test_errors_are_one_line(frame: Any) -> None:
    for call, text in (
        (lambda: fp.softmax(frame, axis="rowz"), "index, rows, columns"),
        (lambda: fp.gelu.backward(frame.iloc[::-1], frame), "labels of dy differ"),
        (lambda: fp.gelu(frame, bias=pd.Series([1.0, 2.0, 3.0])), "labels of bias differ"),
        (lambda: fp.gelu(frame.astype(str)), "dtype"),
        (lambda: fp.gelu([1.0]), "none of its inputs"),
    ):
        with pytest.raises((TypeError, ValueError), match=text) as raised:
            call()
        assert "\n" not in str(raised.value)
