"""The second derivative of every smooth activation, against mpmath's numerical one of another formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import EXACT
from references import REFERENCES, context

import fastact as fa

SMOOTH = [name for name in EXACT if fa.get(name)._definition.is_smooth]
JUMPING = [name for name in EXACT if name not in SMOOTH]
# Neither at 0 nor where a second derivative jumps.
X = np.array([-40, -12.3, -6.1, -2.7, -1.3, -0.75, -0.3, -1e-3, 1e-3, 0.2, 0.6, 1.1, 1.9, 3.3, 25])


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivative(name: str) -> None:
    reference = REFERENCES[name]
    parameters: dict[str, Any] = {**reference.defaults, **reference.settings[0]}
    x = np.array(
        [
            each
            for each in X
            if context.isfinite(reference.exact(context.mpf(each), **parameters)[0])
        ]
    )
    got = fa.get(name).second_derivative(x, **parameters)
    with context.workdps(60):
        exact = [
            float(
                context.diff(lambda z: reference.exact(z, **parameters)[0], context.mpf(point), 2)
            )
            for point in x.tolist()
        ]
    np.testing.assert_allclose(got, exact, 1e-12, 1e-17)
    in_float32 = fa.get(name).second_derivative(x.astype(np.float32), **parameters)
    np.testing.assert_allclose(in_float32, exact, 1e-4, 1e-5)


@pytest.mark.parametrize("name", SMOOTH)
def test_far_out_and_nan(name: str) -> None:
    """Where a function is a line or constant in the end, its curvature is 0 there, not NaN."""
    reference, parameters = REFERENCES[name], REFERENCES[name].settings[0]
    given = reference.defaults | parameters
    for infinity, (_, end) in zip((-np.inf, np.inf), reference.limits(**given), strict=True):
        far = np.array([infinity, np.copysign(1e300, infinity)])
        place = context.mpf(far[1])
        value, slope = reference.exact(place, **given)
        if context.isnan(end) and context.isfinite(value):
            continue  # a wave
        expected = float((reference.exact(2 * place, **given)[1] - slope) / place)
        curvature = fa.get(name).second_derivative(far, **parameters)
        np.testing.assert_array_equal(curvature, expected)
    assert np.isnan(fa.get(name).second_derivative(np.nan, **parameters))


@pytest.mark.parametrize("name", JUMPING)
def test_no_second_derivative_where_the_first_jumps(name: str) -> None:
    with pytest.raises(
        AttributeError, match=f"{name} has no second_derivative: the derivative jumps"
    ):
        fa.get(name).second_derivative(X, **REFERENCES[name].settings[0])
    assert "second_derivative" not in fa.get(name).ufuncs
