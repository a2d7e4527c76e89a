"""ONNX models on NumPy: ONNX's own reference evaluator, with fastact's activations, softmax and losses.

``evaluator(model).run(None, {"x": x})`` is that of ``onnx.reference.ReferenceEvaluator``. Each operator that a function of
fastact names as its counterpart is computed by it; what fastact does not take, such as integers, by ONNX's own
implementation. Run this file: it runs a net that reads handwritten digits both ways.
"""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun, RuntimeContextError
from onnx.reference.ops._op_list import load_op
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import fastact as fa
from fastact.runtime.dtypes import has_loop

# Before this version of ONNX, softmax and its kin flattened their input.
OLDEST = 13
# The axis of the classes in ONNX's losses.
CLASSES = 1
# What ONNX calls options of ours. Its other attributes and inputs have the same names, or follow our parameters.
SPELLED = {"axes": "axis", "weights": "weight"}


class FastactOperator(OpRun):
    """An operator that a function of fastact computes; the base class of one class for each.

    Attributes
    ----------
    function : Function
        The function.
    options : dict of str to str
        Its option behind each of the operator's attributes and of its inputs after the arrays, or an empty string.
    arrays : int
        The number of arrays that the function takes.
    """

    op_domain = ""
    function: Any
    options: Mapping[str, str]
    arrays: int

    def __init__(self, node: Any, run_params: dict[str, Any], schema: Any = None) -> None:
        super().__init__(node, run_params, schema)
        self.version = run_params["opsets"][self.op_domain]
        try:
            original = load_op("", node.op_type, self.version, evaluator_cls=ReferenceEvaluator)
        except RuntimeContextError:  # ONNX knows it as a function of other operators only
            self.original = None
        else:
            self.original = original(node, run_params)

    def _run(self, *inputs: Any, **attributes: Any) -> tuple[Any, ...]:
        """Return the results, of the dtype of the first input."""
        arrays, others = inputs[: self.arrays], inputs[self.arrays :]
        given = attributes | dict(zip(self.inputs_after_arrays(), others, strict=False))
        x = arrays[0]
        is_ours = self.version >= OLDEST and isinstance(x, np.ndarray) and has_loop(x.dtype)
        if is_ours and self.function.kind != "activation":
            # ONNX's softmax of half types rounds each step, and so do the values that its tests expect.
            is_ours = x.itemsize > np.dtype(np.float16).itemsize
        options = self.options_for(x, given) if is_ours else None
        if options is None:
            results: tuple[Any, ...] = self.original._run(*inputs, **attributes)
            return results
        results = (self.function(*arrays, **options),)
        if len(self.output) > 1:  # a loss that returns the logarithms of the probabilities too
            results = (*results, FUNCTIONS["LogSoftmax"](x, axis=CLASSES))
        return tuple(np.asarray(each, x.dtype) for each in results)

    @classmethod
    def inputs_after_arrays(cls) -> list[str]:
        """Return the names of the inputs that are options of the function."""
        return [each.name for each in onnx.defs.get_schema(cls.__name__).inputs][cls.arrays :]

    def options_for(self, x: Any, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the function's options, or None if it has none for what is given."""
        options: dict[str, Any] = {}
        for name, own in self.options.items():
            value, is_parameter = given.get(name), own in self.function.parameters
            if (not own and value) or (is_parameter and value is None):
                return None
            if own == "axis" and name in SPELLED:
                options[own] = tuple(map(int, value)) if value is not None and len(value) else None
            elif is_parameter and np.ndim(value):  # it broadcasts from the last axis on
                if value.size > max(value.shape):
                    return None
                options[own] = value.reshape((1,) * (x.ndim - value.ndim) + value.shape)
            elif own and value is not None:
                options[own] = value
        if self.function.kind == "loss":
            options["axis"] = CLASSES
        return options


def functions() -> dict[str, Any]:
    """Return the functions that have a counterpart in ONNX, by the operator's name."""
    every = map(fa.get, fa.names())
    return {f._definition.elsewhere["onnx"]: f for f in every if "onnx" in f._definition.elsewhere}


def operator(name: str, function: Any) -> type[FastactOperator]:
    """Return the class of an operator."""
    schema, forward = onnx.defs.get_schema(name), function.operations["forward"]
    arrays = sum(each.default is inspect.Parameter.empty for each in forward.arrays)
    theirs = [*schema.attributes, *(each.name for each in schema.inputs[arrays:])]
    parameters = function.parameters if function.kind == "activation" else ()
    left = [each for each in parameters if each not in theirs]
    options = {}
    for each in theirs:
        own = SPELLED.get(each, each)
        options[each] = own if own in forward.option_names else left.pop(0) if left else ""
    content = {"function": function, "options": options, "arrays": arrays}
    return type(name, (FastactOperator,), content)


FUNCTIONS = functions()
OPERATORS = [operator(*each) for each in FUNCTIONS.items()]


def evaluator(model: Any) -> ReferenceEvaluator:
    """Return the reference evaluator of a model, with fastact's operators."""
    return ReferenceEvaluator(model, new_ops=OPERATORS)


# The operators of the activations that scikit-learn's perceptrons have.
ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid"}


def as_onnx(classifier: Any) -> onnx.ModelProto:
    """Return a perceptron of scikit-learn as a model of ONNX that returns probabilities."""
    nodes, weights, last = [], [], "x"
    layers = [*zip(classifier.coefs_, classifier.intercepts_, strict=True)]
    for k, (coefficients, intercepts) in enumerate(layers):
        for name, each in ((f"W{k}", coefficients), (f"b{k}", intercepts)):
            weights.append(numpy_helper.from_array(each.astype(np.float32), name))
        nodes.append(helper.make_node("Gemm", [last, f"W{k}", f"b{k}"], [f"z{k}"]))
        last = f"y{k}"
        kind = "Softmax" if k == len(layers) - 1 else ACTIVATIONS[classifier.activation]
        nodes.append(helper.make_node(kind, [f"z{k}"], [last]))
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("x", len(classifier.coefs_[0])), (last, len(classifier.coefs_[-1][0])))
    )
    opset = helper.make_opsetid("", OLDEST)
    return helper.make_model(
        helper.make_graph(nodes, "perceptron", [x], [y], weights), opset_imports=[opset]
    )


def best_time(run: Callable[[], Any], repeats: int = 5) -> float:
    """Return the least time of a call, in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def main() -> None:
    """Compare both evaluators on perceptrons that read digits."""
    digits = load_digits()
    x = (digits.data / 16).astype(np.float32)
    for activation in ACTIVATIONS:
        classifier = MLPClassifier((256,), activation, max_iter=20, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it knows the digits well enough
            classifier.fit(x, digits.target)
        model = as_onnx(classifier)
        plain, fast = ReferenceEvaluator(model), evaluator(model)
        (expected,), (found,) = (each.run(None, {"x": x}) for each in (plain, fast))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        accuracy = np.mean(found.argmax(axis=1) == digits.target)
        z = np.asarray(x @ classifier.coefs_[0], np.float32)
        whole = [best_time(lambda: each.run(None, {"x": x})) for each in (plain, fast)]  # noqa: B023
        own = [best_time(lambda: each.rt_nodes_[1].run(z)) for each in (plain, fast)]  # noqa: B023
        print(
            f"{activation:8}  {accuracy:.1%} of digits right; ms with ONNX's own operators and fastact's:"
        )
        print(
            f"{'':8}  the net {whole[0]:.2f}, {whole[1]:.2f}; the activation {own[0]:.2f}, {own[1]:.2f}"
        )


if __name__ == "__main__":
    main()
