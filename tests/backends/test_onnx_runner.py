"""The ONNX runner among the examples, against ONNX's own reference evaluator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastact as fa

onnx = pytest.importorskip("onnx")
pytest.importorskip("sklearn")
sys.path.append(str(Path(__file__).parents[2] / "examples"))

from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx_runner import FUNCTIONS, OLDEST, OPERATORS, evaluator

LATEST = onnx.defs.onnx_opset_version()
LABELS = np.array([0, 3, 1])


def model_of(
    name: str, inputs: list[Any], outputs: int = 1, opset: int = LATEST, **attributes: Any
) -> Any:
    """Return a model of one node."""
    names = [f"x{k}" for k, each in enumerate(inputs) if each is not None]
    given = [f"x{k}" if each is not None else "" for k, each in enumerate(inputs)]
    results = [f"y{k}" for k in range(outputs)]
    node = helper.make_node(name, given, results, **attributes)
    kinds = [helper.np_dtype_to_tensor_dtype(each.dtype) for each in inputs if each is not None]
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(*each, None) for each in zip(names, kinds, strict=True)],
        [helper.make_tensor_value_info(each, kinds[0], None) for each in results],
    )
    assert kinds[0] != TensorProto.UNDEFINED
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def check(name: str, inputs: list[Any], rtol: float = 1e-5, **options: Any) -> list[Any]:
    """Compare both evaluators."""
    model = model_of(name, inputs, **options)
    given = {f"x{k}": each for k, each in enumerate(inputs) if each is not None}
    found, expected = (each(model).run(None, given) for each in (evaluator, ReferenceEvaluator))
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == theirs.dtype
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=1e-6)
    return found


def numbers(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_operator(name: str) -> None:
    x = numbers(3, 4)
    others: dict[str, list[Any]] = {
        "Clip": [np.float32(-0.5), np.float32(0.5)],
        "PRelu": [np.full(4, 0.3, np.float32)],
        "ReduceLogSumExp": [np.array([1])],
    }
    more = [np.asarray(each) for each in others.get(name, [])]
    check(name, [x, *([LABELS] if FUNCTIONS[name].kind == "loss" else more)])


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("LeakyRelu", {"alpha": 0.3}),
        ("Selu", {"alpha": 1.5, "gamma": 0.5}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("Swish", {"alpha": 2.0}),
        ("Gelu", {"approximate": "tanh"}),
        ("Shrink", {"lambd": 0.3, "bias": 0.1}),
        ("Softmax", {"axis": 0}),
        ("Hardmax", {"axis": 1}),
    ],
)
def test_attributes(name: str, attributes: dict[str, Any]) -> None:
    check(name, [numbers(3, 4)], **attributes)


def test_losses() -> None:
    x, weights = numbers(3, 4, 2), np.array([1, 2, 0.5, 3], np.float32)
    labels = np.array([[0, 3], [1, 1], [2, 0]])
    for reduction in ("mean", "sum", "none"):
        options = {"reduction": reduction, "ignore_index": 1}
        check("SoftmaxCrossEntropyLoss", [x, labels, weights], outputs=2, **options)
        check("NegativeLogLikelihoodLoss", [x, labels, weights], **options)


def test_reductions() -> None:
    x = numbers(3, 4, 5)
    check("ReduceLogSumExp", [x])
    check("ReduceLogSumExp", [x, np.array([0, -1])], keepdims=0)
    check("ReduceLogSumExp", [x, None], noop_with_empty_axes=1)


def test_what_fastact_does_not_take_goes_to_onnx() -> None:
    check("Relu", [np.array([-1, 2], np.int32)])
    check("Clip", [numbers(3), None, np.asarray(np.float32(0.5))])
    check("PRelu", [numbers(3, 4), numbers(3, 4)])
    check("Softmax", [numbers(3, 4, dtype=np.float16)], rtol=0)
    check("Softmax", [numbers(2, 3, 4)], opset=OLDEST - 2, axis=1)


def test_the_operators_are_those_of_the_registry() -> None:
    claimed = {
        fa.get(name)._definition.elsewhere["onnx"]
        for name in fa.names()
        if "onnx" in fa.get(name)._definition.elsewhere
    }
    assert {each.__name__ for each in OPERATORS} == claimed
