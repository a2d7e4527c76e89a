"""What a user holds: one object for each activation, with its ufuncs and its metadata."""

from fastact.catalogue.definition import (
    Definition,
    GroupDefinition,
    ReducedRowDefinition,
    RowDefinition,
)
from fastact.functions.base import Activation
from fastact.functions.gumbel import GumbelActivation
from fastact.functions.learnable import LearnableActivation
from fastact.functions.maxout import GroupActivation
from fastact.functions.pointwise import PointwiseActivation
from fastact.functions.randomized import RandomizedActivation
from fastact.functions.rows import ReducedRowActivation, RowActivation

__all__ = [
    "Activation",
    "GroupActivation",
    "GumbelActivation",
    "LearnableActivation",
    "PointwiseActivation",
    "RandomizedActivation",
    "ReducedRowActivation",
    "RowActivation",
    "make_activation",
]


def make_activation(definition: Definition) -> Activation:
    """Return the object of the kind that a definition asks for."""
    if isinstance(definition, GroupDefinition):
        return GroupActivation(definition)
    if isinstance(definition, ReducedRowDefinition):
        return ReducedRowActivation(definition)
    if isinstance(definition, RowDefinition):
        return (GumbelActivation if definition.is_random else RowActivation)(definition)
    if definition.drawn_between:
        return RandomizedActivation(definition)
    return (LearnableActivation if definition.learnable else PointwiseActivation)(definition)
