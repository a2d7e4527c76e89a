"""Attributes of another package, replaced for a time or for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from typing import Any


class Switch:
    """Attributes of a module or class and what replaces them.

    Parameters
    ----------
    owner : module or class
        Whose attributes they are.
    replacements : callable
        Takes nothing and returns a dict from their names to what replaces them.
    """

    def __init__(self, owner: Any, replacements: Callable[[], Mapping[str, Any]]) -> None:
        self._owner, self._replacements = owner, replacements
        self._originals: dict[str, Any] = {}
        self._is_permanent, self._blocks = False, 0
        self._lock = RLock()

    def patch(self) -> None:
        """Replace the attributes until `unpatch`."""
        with self._lock:
            self._is_permanent = True
            self._apply()

    def unpatch(self) -> None:
        """Restore the attributes; within blocks of `patched`, when the last of them ends."""
        with self._lock:
            self._is_permanent = False
            self._apply()

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Replace the attributes in a ``with`` block, which may be inside others and in several threads."""
        self._enter(1)
        try:
            yield
        finally:
            self._enter(-1)

    def _enter(self, blocks: int) -> None:
        with self._lock:
            self._blocks += blocks
            self._apply()

    def _apply(self) -> None:
        """Replace or restore the attributes, as it should be now."""
        is_wanted, originals = self._is_permanent or self._blocks > 0, self._originals
        if is_wanted == bool(originals):
            return
        wanted = self._replacements() if is_wanted else originals
        self._originals = {name: vars(self._owner)[name] for name in wanted} if is_wanted else {}
        for name, each in wanted.items():
            setattr(self._owner, name, each)
