"""The loop over packed arrays, which hold two halves, such as a gate and a value."""

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
        Takes one vector for each input, two for a packed one, and returns outputs likewise.
    operands : Operands
        The memory layout of the operands, where each half counts as one.
    halves : tuple of bool
        For each operand of the ufunc, whether its core dimensions are ``(2,n)`` rather than ``(n)``.
    """
    run = internal(elementwise(operation, operands))
    reserve, one_word = stack(operands.count), stack(1)
    length_dimension = 2 if halves[0] else 1  # NumPy numbers core dimensions in order of appearance
    count = len(halves)

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        args = words(arguments)
        half_args, half_steps, length = reserve(), reserve(), one_word()
        length[0] = dimensions[length_dimension]
        # The elementwise loop reads one element of a broadcast operand, which an empty one does not have.
        for i in range(dimensions[0] if length[0] > 0 else 0):
            half, core = 0, count  # core steps follow those of the operands
            for k in range(count):
                half_args[half] = args[k] + i * steps[k]
                if halves[k]:
                    half_args[half + 1] = half_args[half] + steps[core]
                    core += 1
                    half_steps[half + 1] = steps[core]
                half_steps[half] = steps[core]
                half += 2 if halves[k] else 1
                core += 1
            run(half_args, length, half_steps, data)

    return loop
