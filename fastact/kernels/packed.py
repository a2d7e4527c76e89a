"""The loop over packed arrays, which hold several parts, such as a gate and a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from fastact.kernels.elementwise import elementwise
from fastact.simd.blocks import UNROLL_FACTOR
from fastact.simd.compilable import internal
from fastact.simd.memory import stack, words, words_of
from fastact.simd.operands import Operands


def packed(
    operation: Callable[..., Any],
    operands: Operands,
    parts: tuple[int, ...],
    order: Sequence[int] = (),
) -> Callable[..., None]:
    """Return the loop of a generalized ufunc that applies `operation` to all parts of its arrays.

    Parameters
    ----------
    operation : callable
        Takes one vector for each part of each input, and returns outputs likewise.
    operands : Operands
        The memory layout of the operands, where each part counts as one.
    parts : tuple of int
        For each operand of the ufunc, the p of its core dimensions ``(p,n)``; 1 for ``(n)``.
    order : sequence of int, optional
        The position at which the operation takes each part of a packed operand; that in memory by default.
    """
    # The parts are computed side by side and share the registers; narrow blocks waste less on short rows, too.
    unroll = max(1, UNROLL_FACTOR // max(parts))
    run = internal(elementwise(operation, operands, unroll=unroll))
    count = operands.count
    reserve, one_word = stack(count), stack(1)
    # NumPy numbers core dimensions in order of appearance; their steps follow those of the operands.
    length_dimension = 2 if parts[0] > 1 else 1
    # Of each part its operand, its place there, and where the steps from part to part and along the row are.
    rows, core = [], len(parts)
    for k, size in enumerate(parts):
        has_axis = size > 1
        places = order if has_axis and order else range(size)
        rows += [(k, part, core, core + has_axis) for part in map(places.index, range(size))]
        core += 1 + has_axis
    table = words_of(tuple(chain.from_iterable(rows)))

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        args, row = words(arguments), table()
        part_args, part_steps, length = reserve(), reserve(), one_word()
        length[0] = dimensions[length_dimension]
        for k in range(count):
            part_args[k] = args[row[4 * k]] + row[4 * k + 1] * steps[row[4 * k + 2]]
            part_steps[k] = steps[row[4 * k + 3]]
        # The elementwise loop reads one element of a broadcast operand, which an empty one does not have.
        for _ in range(dimensions[0] if length[0] > 0 else 0):
            run(part_args, length, part_steps, data)
            for k in range(count):
                part_args[k] += steps[row[4 * k]]

    return loop
