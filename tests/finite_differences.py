"""Gradients of whole nets, against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest


def check_gradients(
    parameters: Mapping[str, Any], gradients: Callable[[], tuple[Any, Mapping[str, Any]]]
) -> None:
    """Compare with central differences, for each parameter in a random direction.

    `gradients` returns the loss and the gradients for the values that `parameters` hold: arrays in float64.
    """
    random = np.random.default_rng(1)
    _, found = gradients()
    assert set(found) == set(parameters)
    for name, each in parameters.items():
        direction = random.standard_normal(each.shape)
        losses = []
        for step in (1e-5, -1e-5):
            each += step * direction
            losses.append(gradients()[0])
            each -= step * direction
        slope = (losses[0] - losses[1]) / 2e-5
        expected = np.vdot(direction, found[name])
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-8), name
