"""What another package looks up, replaced for a time or for good."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from typing import Any


class Switch:
    """Attributes of modules and classes, or entries of dicts, and what replaces them.

    Parameters
    ----------
    replacements : callable
        Takes nothing and returns the owner, the name and the replacement of each.
    """

    def __init__(self, replacements: Callable[[], Iterable[tuple[Any, str, Any]]]) -> None:
        self._replacements = replacements
        self._originals: list[tuple[Any, str, Any]] = []
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
        wanted = list(self._replacements()) if is_wanted else originals
        self._originals = [(o, n, _namespace(o)[n]) for o, n, _ in wanted] if is_wanted else []
        for owner, name, each in wanted:
            if isinstance(owner, dict):
                owner[name] = each
            else:
                setattr(owner, name, each)


def _namespace(owner: Any) -> Mapping[str, Any]:
    return owner if isinstance(owner, dict) else vars(owner)
