"""The code that a kernel's loop runs for a block of contiguous elements, found in its assembly."""

from __future__ import annotations

import heapq
import re
from dataclasses import dataclass
from functools import cached_property

_LABEL = re.compile(r"([\w.$]+):")
# The function for elements that do not fill a block.
_COPY = "fastact.copy."
_VECTOR = re.compile(r"%[xyz]mm\d|%k\d|\b[vqz]\d+(?:\b|\.)")
_STACK = re.compile(r"-?\d*\(%r[sb]p\)|\[(?:sp|x29)\b")
# What is written, and the registers in it.
_X86_STORE = re.compile(r"vmov\w+\s+(%[xyz]mm\d+), (?:-?\w+)?\(")
_ARM_STORE = re.compile(r"st[pr]\s+(q\d+(?:, q\d+)?), \[")
_BYTES = {"x": 16, "y": 32, "z": 64}
_STREAMING = re.compile(r"vmovnt|stnp")
_CALL = re.compile(r"call|bl\s|blr\s")
_JUMP = re.compile(r"(?:j\w+|b(?:\.\w+)?|cbn?z\s+\w+,|tbn?z\s+\w+, #\d+,)\s+(\.\w+)")
_COMMENT = re.compile(r"\s(?:# |## |//)")  # in Arm's assembly, #1 is a number
_ENDS = re.compile(r"jmp|ret|b\s|br\s|ud2")


@dataclass(frozen=True)
class HotBlock:
    """Instructions from the head of the loop around to it.

    Attributes
    ----------
    lines : list of str
        The instructions, in AT&T's syntax for x86.
    """

    lines: list[str]

    @property
    def vector_instructions(self) -> int:
        """How many instructions work on vectors or masks."""
        return sum(bool(_VECTOR.search(line)) for line in self.lines)

    @property
    def spills(self) -> int:
        """How many of them read or write the stack."""
        return sum(bool(_VECTOR.search(line) and _STACK.search(line)) for line in self.lines)

    @cached_property
    def bytes_stored(self) -> int:
        """The bytes of the outputs."""
        return sum(map(_bytes_stored, self.lines))


def _bytes_stored(line: str) -> int:
    if _STACK.search(line) or _STREAMING.match(line):
        return 0
    if found := _X86_STORE.match(line):
        return _BYTES[found[1][1]]
    found = _ARM_STORE.match(line)
    return 16 * len(found[1].split(",")) if found else 0


def hot_block(assembly: str) -> HotBlock:
    """Return the shortest way around the loop through the block that stores most vectors, without calls."""
    blocks, successors = _graph(assembly)
    stored = {
        name: sum(map(_bytes_stored, lines))
        for name, lines in blocks.items()
        if not any(map(_CALL.match, lines))
    }
    most = max(stored.values())
    around = [
        way
        for name, count in stored.items()
        if count == most and (way := _shortest_cycle(name, blocks, successors))
    ]
    if not most or not around:
        raise ValueError("no loop stores vectors")
    ways = [[line for name in way for line in blocks[name]] for way in around]
    return HotBlock(min(ways, key=len))


def _graph(assembly: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the basic blocks of the code, and where each may go on."""
    blocks: dict[str, list[str]] = {"": []}
    successors: dict[str, list[str]] = {"": []}
    name, is_open, is_copy = "", True, False
    for raw in assembly.splitlines():
        line = _COMMENT.split(raw, maxsplit=1)[0].strip().replace("\t", " ")
        label = _LABEL.match(line)
        if label and not label[1].startswith(".L"):
            is_copy = label[1].startswith(_COPY)
        if is_copy:
            continue
        if label or (is_open and blocks[name] and _JUMP.match(blocks[name][-1])):
            after = label[1] if label else f"{name}'"
            if is_open:
                successors[name].append(after)
            name, is_open = after, True
            blocks[name], successors[name] = [], []
        if label or not line or line.startswith((".", "#", "//")):
            continue
        if is_open:
            blocks[name].append(line)
            if jump := _JUMP.match(line):
                successors[name].append(jump[1])
            is_open = not _ENDS.match(line)
    return blocks, successors


def _shortest_cycle(
    start: str, blocks: dict[str, list[str]], successors: dict[str, list[str]]
) -> list[str] | None:
    """Return the names of the blocks on the way of the fewest instructions from one back to it, by Dijkstra's algorithm."""
    reached = [(0, each, [start]) for each in successors[start]]
    done = set()
    while reached:
        length, name, way = heapq.heappop(reached)
        if name == start:
            return way
        lines = blocks.get(name, [])
        if name in done or any(_CALL.match(line) or _STREAMING.match(line) for line in lines):
            continue
        done.add(name)
        for each in successors.get(name, ()):
            heapq.heappush(reached, (length + len(lines), each, [*way, name]))
    return None
