"""The loop over packed arrays, of two halves, such as a gate and what it lets through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastact.kernels.elementwise import elementwise
from fastact.simd.compilable import internal
from fastact.simd.memory import stack, words
from fastact.simd.operands import Operands


def packed(
    operation: Callable[..., Any], operands: Operands, halves: tuple[bool, ...]
) -> Callable[..., None]:
    """Return the loop of a generalized ufunc that applies `operation` to both halves of its arrays.

    Parameters
    ----------
    operation : callable
        Takes one vector for each input, of packed ones one for each half, and returns the outputs so.
    operands : Operands
        How the operands lie in memory, each half an operand.
    halves : tuple of bool
        For each operand of the ufunc whether it has the core dimensions ``(2,n)``, or ``(n)``.
    """
    run = internal(elementwise(operation, operands))
    reserve, one_word = stack(operands.count), stack(1)
    place_of_length = 2 if halves[0] else 1  # dimensions are numbered as they come up
    count = len(halves)

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        args = words(arguments)
        own_args, own_steps, length = reserve(), reserve(), one_word()
        length[0] = dimensions[place_of_length]
        # Of no elements, there is not even the one that a loop spreads at a step of 0.
        for i in range(dimensions[0] if length[0] > 0 else 0):
            own, core = 0, count  # core steps follow those of the operands
            for k in range(count):
                own_args[own] = args[k] + i * steps[k]
                if halves[k]:
                    own_args[own + 1] = own_args[own] + steps[core]
                    core += 1
                    own_steps[own + 1] = steps[core]
                own_steps[own] = steps[core]
                own += 2 if halves[k] else 1
                core += 1
            run(own_args, length, own_steps, data)

    return loop
