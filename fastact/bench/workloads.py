"""Workloads: a function and the arrays that all implementations compute it on."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastact as fa
from fastact.catalogue.definition import CellDefinition, Definition, ElementwiseLossDefinition

Array = NDArray[Any]

#: More deviates repeat these: to draw 2x10^7 takes longer than to measure what is computed on them.
_DRAWN = 1 << 20


@dataclass(frozen=True)
class Workload:
    """A function and the arrays that all implementations compute it on, the same in every run.

    Attributes
    ----------
    name : str
        The name of the function in fastact and in the baseline.
    inputs : tuple of ndarray
        The differentiable inputs: normal deviates times a factor, 4 by default, then the bias of a pointwise activation,
        or the weights of a linear layer with as many classes as features.
    constants : tuple of ndarray
        Inputs without a gradient, such as labels.
    dys : tuple of ndarray
        The gradient of each output; none for a loss, which is differentiated itself.
    parameters : mapping of str to Any
        Other arguments of fastact's call: required parameters, or a seed.
    """

    name: str
    inputs: tuple[Array, ...]
    constants: tuple[Array, ...] = ()
    dys: tuple[Array, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        shape: tuple[int, ...],
        dtype: str = "float32",
        with_bias: bool = False,
        scale: float = 4.0,
    ) -> Workload:
        """Return the workload of a function on an input of a shape.

        The last axis is rounded up to whole groups of `maxout` and to all gates of a cell; `with_bias`
        gives activations a bias along it, and `scale` is the factor of the first input.

        Raises
        ------
        NotImplementedError
            If the function needs arrays of an unknown kind.
        """
        random, function = np.random.default_rng(20), fa.get(name)

        def deviates(shape: tuple[int, ...]) -> Array:
            drawn = random.standard_normal(min(math.prod(shape), _DRAWN), dtype)  # type: ignore[call-overload]
            return np.resize(drawn, shape)

        if function.kind == "activation":
            parameters = function._definition.required_parameters
            pieces = parameters.get("pieces", 1)
            *outer, length = shape
            groups = -(-length // pieces)
            x, dy = deviates((*outer, groups * pieces)), deviates((*outer, groups))
            bias = (deviates((length,)),) if with_bias else ()
            return cls(name, (scale * x, *bias), dys=(dy,), parameters=parameters)
        if isinstance(function._definition, CellDefinition):
            return cls(name, *_arrays_of_cell(function._definition, shape, deviates))
        if "forward_backward" not in function.operations:
            raise NotImplementedError(f"there are no arrays for {name}")
        arguments = inspect.signature(function.forward_backward).parameters
        options: dict[str, Any] = {"rng": 0} if "rng" in arguments else {}
        if function.kind == "dropout":
            options["p"] = 0.5  # the default, which the gradient takes too
        x = scale * deviates(shape)
        if function.kind != "loss":
            few = x if x.ndim == 1 else x[:2]  # not all: a peer's process keeps to one thread
            shape_of_few = np.shape(function(few, **options))
            dy = deviates((len(x), *shape_of_few[1:]) if x.ndim > 1 else shape_of_few)
            return cls(name, (x,), dys=(dy,), parameters=options)
        first, *others = (each.name for each in arguments.values() if _is_required(each))
        if first == "probabilities":
            x = (1 - random.random(shape)).astype(dtype)
        inputs = [x]
        if "weight" in others:
            others.remove("weight")
            inputs.append(deviates((shape[-1], shape[-1])))
        if len(others) > 1:
            raise NotImplementedError(f"there are no arrays for {', '.join(others)} of {name}")
        if isinstance(function._definition, ElementwiseLossDefinition):
            targets: Array = random.random(shape, np.float32)
        else:
            targets = random.integers(0, shape[-1], shape[:-1])
        return cls(name, tuple(inputs), (targets,), parameters=options)

    @property
    def x(self) -> Array:
        """The first input."""
        return self.inputs[0]

    @property
    def others(self) -> tuple[Array, ...]:
        """Further arguments of ``forward_backward``: `dys`, or the constants of a loss."""
        return self.dys or self.constants

    @property
    def dy(self) -> Array | None:
        """The gradient of the first output, if there is one."""
        return self.dys[0] if self.dys else None

    @property
    def is_pointwise(self) -> bool:
        """Whether the function is an activation, as opposed to a function of rows or a layer."""
        return bool(fa.get(self.name).kind == "activation")

    @property
    def has_bias(self) -> bool:
        """Whether the last input is the bias of an activation."""
        return self.is_pointwise and len(self.inputs) > 1

    @property
    def definition(self) -> Definition:
        """The definition of the activation."""
        found: Definition = fa.get(self.name)._definition
        return found

    @property
    def title(self) -> str:
        """The name and shape, for tables."""
        return f"{self.name}{' with bias' if self.has_bias else ''} {self.x.shape}"


@dataclass(frozen=True)
class Cell:
    """What is measured at a time: an operation of a function, on arrays of a shape.

    Attributes
    ----------
    name, operation : str
        The function and what it computes.
    shape : tuple of int
        The shape of the input.
    dtype : str
        The type of all arrays.
    given_outputs : bool
        Whether implementations that can write to existing arrays do so.
    """

    name: str
    operation: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    given_outputs: bool = False

    @property
    def work(self) -> Workload:
        """The arrays; activations of rows get a bias."""
        return Workload.of(self.name, self.shape, self.dtype, with_bias=len(self.shape) > 1)

    @property
    def title(self) -> str:
        """The function and the shape, for tables."""
        has_bias = len(self.shape) > 1 and fa.get(self.name).kind == "activation"
        return f"{self.name}{' with bias' if has_bias else ''} {self.shape}"

    @property
    def sample(self) -> Cell:
        """The same operation on few elements, on which the results of all implementations are compared."""
        *outer, length = self.shape
        shape = (*(min(each, 64) for each in outer), length) if outer else (1000,)
        return replace(self, shape=shape, given_outputs=False)


def _arrays_of_cell(
    definition: CellDefinition, shape: tuple[int, ...], deviates: Callable[[tuple[int, ...]], Array]
) -> tuple[tuple[Array, ...], tuple[()], tuple[Array, ...]]:
    """Return inputs, no constants, and the gradients of the outputs."""
    *outer, length = shape
    features = -(-length // len(definition.gates))
    read, written = (
        tuple(
            deviates((*outer, int(parts or 1) * features))
            for parts in re.findall(r"\((?:(\d+),)?n\)", side)
        )
        for side in definition.signature.split("->")
    )
    return read, (), written


def _is_required(argument: inspect.Parameter) -> bool:
    """Whether an argument is positional and has no default."""
    positional = (argument.POSITIONAL_ONLY, argument.POSITIONAL_OR_KEYWORD)
    return argument.default is argument.empty and argument.kind in positional
