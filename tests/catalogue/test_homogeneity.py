"""Which activations are homogeneous, so that their values have the unit of their input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastact.catalogue.definition import GroupDefinition
from fastact.functions.registry import functions

ACTIVATIONS = [
    each
    for each in functions()
    if each.kind == "activation" and not isinstance(each._definition, GroupDefinition)
]


@pytest.mark.parametrize("f", ACTIVATIONS, ids=lambda f: f.name)
def test_exactly_those_are_marked_that_commute_with_positive_factors(f: Any) -> None:
    x = np.concatenate([-np.geomspace(1e-3, 1e3, 50), [0.0], np.geomspace(1e-3, 1e3, 50)])
    definition = f._definition
    samples = [definition.required_parameters | dict(each) for each in (*definition.samples, {})]

    def values(x: Any, **parameters: Any) -> Any:
        return f.value_and_derivative(x, **parameters)[0]  # `test_accuracy` has the kernels

    with np.errstate(over="ignore", invalid="ignore"):
        commutes = all(
            np.allclose(values(c * x, **sample), c * values(x, **sample), 1e-12, equal_nan=True)
            for sample in samples
            for c in (0.25, 3.0, 1e3)
        )
    assert definition.is_homogeneous == commutes
