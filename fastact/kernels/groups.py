"""Loops over groups of elements: the best of each, and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastact.simd import select
from fastact.simd.compilable import internal
from fastact.simd.memory import Access, PackedAccess, first_lanes, words, zeros_of
from fastact.simd.storage import Storage


def groups(is_better: Callable[..., Any], operation: str, dtype: str) -> Callable[..., None]:
    """Return the loop of a generalized ufunc that selects the best element of each group, or its gradient.

    Adjacent groups of up to four elements are deinterleaved in registers; larger groups and strided ones use
    gathers and scatters.

    Parameters
    ----------
    is_better : callable
        Takes the best elements so far and candidates, and returns the mask of better candidates.
    operation : str
        ``"forward"``, ``(p)->()``, from ``x`` to ``y``; ``"forward_with_index"``, ``(p)->(),()``, from
        ``x`` to ``y`` and the index of the best; ``"backward"``, ``(),()->(p)``, from ``dy`` and the
        index to ``dx``; ``"forward_backward"``, ``(p),()->(),(p)``, from ``x`` and ``dy`` to ``y`` and
        ``dx``.
    dtype : str
        The dtype of all operands but the index, which is ``intp``.
    """
    storage = Storage(dtype)
    itemsize, lanes = storage.itemsize, storage.vector.lanes
    better = internal(is_better)
    any_size = _runs(storage, *_one_by_one(storage, better))[operation]
    of_2, of_3, of_4 = (
        _runs(storage, *_in_registers(storage, better, pieces))[operation] for pieces in (2, 3, 4)
    )
    grouped, is_grouped_too, operands = _GROUPED[operation]

    def loop(arguments: Any, dimensions: Any, steps: Any, data: Any) -> None:
        args = words(arguments)
        n, pieces = dimensions[0], dimensions[1]
        whole = 0
        if (
            pieces <= 4
            and steps[grouped] == pieces * itemsize
            and steps[operands] == itemsize
            and (is_grouped_too < 0 or steps[is_grouped_too] == pieces * itemsize)
            and (is_grouped_too < 0 or steps[operands + 1] == itemsize)
        ):
            whole = n - n % lanes
            if pieces == 2:
                of_2(args, steps, pieces, 0, whole)
            elif pieces == 3:
                of_3(args, steps, pieces, 0, whole)
            elif pieces == 4:
                of_4(args, steps, pieces, 0, whole)
            else:
                whole = 0
        any_size(args, steps, pieces, whole, n)

    return loop


# For each operation: the operand with a group dimension, a second one or -1, and the number of operands. In
# `steps`, core steps follow those of the operands.
_GROUPED = {
    "forward": (0, -1, 2),
    "forward_with_index": (0, -1, 3),
    "backward": (2, -1, 3),
    "forward_backward": (0, 3, 4),
}


def _one_by_one(storage: Storage, better: Any) -> tuple[Any, Any]:
    """Return functions that read and write groups of any size and stride, one vector for each piece."""
    access = Access(storage, storage.vector)
    load, store, zeros = access.load, access.store, zeros_of(storage.vector)

    @internal
    def best_of(x: int, step: int, piece_step: int, pieces: int, mask: Any) -> Any:
        if pieces < 1:
            return zeros() / zeros(), zeros()  # NaN: an empty group has no best element
        best, which = load(x, step, mask), zeros()
        for piece in range(1, pieces):
            other = load(x + piece * piece_step, step, mask)
            wins = better(best, other)
            best, which = select(wins, other, best), select(wins, piece, which)
        return best, which

    @internal
    def spread(
        dx: int, step: int, piece_step: int, pieces: int, mask: Any, dy: Any, which: Any
    ) -> None:
        for piece in range(pieces):
            store(dx + piece * piece_step, step, mask, select(which == piece, dy, 0))

    return best_of, spread


def _in_registers(storage: Storage, better: Any, size: int) -> tuple[Any, Any]:
    """Return functions that read and write adjacent groups of one small size."""
    access = PackedAccess(storage, storage.vector, size)
    load, store, zeros = access.load, access.store, zeros_of(storage.vector)
    scattered = _scattered(size)

    @internal
    def best_of(x: int, step: int, piece_step: int, pieces: int, mask: Any) -> Any:
        parts = load(x)
        best, which = parts[0], zeros()
        for piece in range(1, size):
            wins = better(best, parts[piece])
            best, which = select(wins, parts[piece], best), select(wins, piece, which)
        return best, which

    @internal
    def spread(
        dx: int, step: int, piece_step: int, pieces: int, mask: Any, dy: Any, which: Any
    ) -> None:
        store(dx, scattered(dy, which))

    return best_of, spread


def _scattered(size: int) -> Any:
    """Return a function that routes `dy` to the chosen piece: a tuple with the gradient of each piece."""
    last = size - 1
    if last == 0:
        return internal(lambda dy, which: (select(which == 0, dy, 0),))
    others = _scattered(last)
    return internal(lambda dy, which: others(dy, which) + (select(which == last, dy, 0),))


def _runs(storage: Storage, best_of: Any, spread: Any) -> dict[str, Any]:
    """Return a function for each operation that runs over a range of groups.

    `best_of` returns the best element of each group and its index; `spread` writes each group's gradient to the piece
    with a given index, and zero to the others.
    """
    vector = storage.vector
    lanes, first = vector.lanes, first_lanes(vector)
    numbers, indices = Access(storage, vector), Access(Storage("intp"), vector)
    load, store = numbers.load, numbers.store
    load_index, store_index = indices.load, indices.store

    def forward(args: Any, steps: Any, pieces: int, begin: int, end: int) -> None:
        for i in range(begin, end, lanes):
            mask = first(end - i)
            best, _ = best_of(args[0] + i * steps[0], steps[0], steps[2], pieces, mask)
            store(args[1] + i * steps[1], steps[1], mask, best)

    def forward_with_index(args: Any, steps: Any, pieces: int, begin: int, end: int) -> None:
        for i in range(begin, end, lanes):
            mask = first(end - i)
            best, which = best_of(args[0] + i * steps[0], steps[0], steps[3], pieces, mask)
            store(args[1] + i * steps[1], steps[1], mask, best)
            store_index(args[2] + i * steps[2], steps[2], mask, which)

    def backward(args: Any, steps: Any, pieces: int, begin: int, end: int) -> None:
        for i in range(begin, end, lanes):
            mask = first(end - i)
            dy = load(args[0] + i * steps[0], steps[0], mask)
            which = load_index(args[1] + i * steps[1], steps[1], mask)
            spread(args[2] + i * steps[2], steps[2], steps[3], pieces, mask, dy, which)

    def forward_backward(args: Any, steps: Any, pieces: int, begin: int, end: int) -> None:
        for i in range(begin, end, lanes):
            mask = first(end - i)
            best, which = best_of(args[0] + i * steps[0], steps[0], steps[4], pieces, mask)
            dy = load(args[1] + i * steps[1], steps[1], mask)
            store(args[2] + i * steps[2], steps[2], mask, best)
            spread(args[3] + i * steps[3], steps[3], steps[5], pieces, mask, dy, which)

    runs = (forward, forward_with_index, backward, forward_backward)
    return {run.__name__: internal(run) for run in runs}
