"""The function objects that users call, made from the catalogue."""

from fastact.functions import (  # noqa: F401  imported to register their families
    activations,
    batch_normalization,
    cells,
    cross_entropy,
    dropout,
    elementwise_losses,
    linear_cross_entropy,
    maxout,
    normalizations,
    packed,
    rows,
)
from fastact.functions.function import Function, function_of, make_function

__all__ = ["Function", "function_of", "make_function"]
