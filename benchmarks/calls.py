"""The overhead of a call: almost nothing to compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastact as fa


class OneElement:
    """A thousand calls with one element each: a millisecond in the plot is a microsecond a call."""

    version = "1"
    param_names = ("caller",)
    params = ("np.tanh", "fa.tanh", "fa.tanh.ufuncs")

    def setup(self, caller: str) -> None:
        functions: dict[str, Callable[..., Any]] = {
            "np.tanh": np.tanh,
            "fa.tanh": fa.tanh,
            "fa.tanh.ufuncs": fa.tanh.ufuncs["forward"],
        }
        self.function = functions[caller]
        self.x = np.ones(1, dtype=np.float32)
        self.function(self.x)

    def time_thousand_calls(self, caller: str) -> None:
        function, x = self.function, self.x
        for _ in range(1000):
            function(x)
