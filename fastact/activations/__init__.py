"""What a user holds: one object for each activation, with its ufuncs and its metadata."""

from fastact.activations.base import Activation
from fastact.activations.groups import GroupActivation
from fastact.activations.gumbel import GumbelActivation
from fastact.activations.learnable import LearnableActivation
from fastact.activations.pointwise import PointwiseActivation
from fastact.activations.randomized import RandomizedActivation
from fastact.activations.rows import ReducedRowActivation, RowActivation
from fastact.definition import Definition, GroupDefinition, ReducedRowDefinition, RowDefinition

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
