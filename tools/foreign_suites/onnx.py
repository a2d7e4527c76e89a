"""ONNX's node tests of every operator that fastact has, by both evaluators: ``python -m tools.foreign_suites.onnx``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .comparison import ROOT, compare

sys.path.insert(0, str(ROOT / "examples"))

from onnx.backend.test.loader import load_model_tests
from onnx.reference import ReferenceEvaluator
from onnx_runner import FUNCTIONS, evaluator  # type: ignore[import-not-found]


def is_concerned(model: Any) -> bool:
    """Whether a model has one of the operators."""
    return any(node.op_type in FUNCTIONS and not node.domain for node in model.graph.node)


def outcome(case: Any, run_with: Callable[[Any], Any]) -> str:
    """Run a test and return "passed" or "failed"."""
    try:
        session = run_with(case.model)
        for inputs, outputs in case.data_sets:
            named = zip(session.input_names, inputs, strict=True)
            found = session.run(None, dict(named))
            for each, expected in zip(found, outputs, strict=True):
                np.testing.assert_equal(np.asarray(each).dtype, np.asarray(expected).dtype)
                np.testing.assert_allclose(each, expected, rtol=case.rtol, atol=case.atol)
    except Exception:
        return "failed"
    return "passed"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    cases = [each for each in load_model_tests(kind="node") if is_concerned(each.model)]
    results = [
        {each.name: outcome(each, way) for each in cases} for way in (ReferenceEvaluator, evaluator)
    ]
    sys.exit(min(compare(*results), 1))
