"""The activations and dtypes that stand for all where the machinery around them is tested.

The seven activations cover every kind of ufunc: with no parameter, with one, with a learnable one, on groups, with
and without a derivative from the output. The others are made by the same code, and `test_catalogue` sees
to it that they are there.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest

REPRESENTATIVES = ("sigmoid", "tanh", "relu", "leaky_relu", "prelu", "elu", "maxout")


#: Functions whose methods stand for those of their family, which are written once.
OF_EACH_FAMILY = (
    *REPRESENTATIVES,
    *(
        "softmax",
        "gumbel_softmax",
        "logsumexp",
        "swiglu",
        "crelu",
        "lstm_cell",
        "gru_cell",
        "dropout",
    ),
    *("layer_norm", "batch_norm", "softmax_cross_entropy", "huber", "linear_cross_entropy"),
)


def only_long(*values: Any) -> list[Any]:
    """Return parameters of a test that only ``--long`` runs: others stand for them by default."""
    return [pytest.param(value, marks=pytest.mark.long) for value in values]


def with_long(names: Iterable[str], by_default: Container[str] = REPRESENTATIVES) -> list[Any]:
    """Return functions as parameters, those that others stand for only with ``--long``."""
    return [name if name in by_default else only_long(name)[0] for name in names]


#: Of the two half types, only bfloat16 has blocks in another order than memory; what is left is rounding, the same code
#: for every kernel.
HALF_TYPES = ["bfloat16", *only_long("float16")]
