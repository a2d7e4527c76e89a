"""What LLVM's model of a processor says of a hot block: ``llvm-mca``."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from .hot_block import HotBlock, hot_block
from .processors import PROCESSORS, Processor, assemblies

_ITERATIONS = 50


@dataclass(frozen=True)
class Result:
    """The cost of one function on one processor, for float32.

    Attributes
    ----------
    function, processor : str
        Their names.
    registers : int
        The vectors of each array in a block.
    instructions, spills : float
        Vector instructions for each of them, and how many of these read or write the stack.
    throughput, chain : float
        Cycles an element: what the busiest port or the width of dispatch allows, and as the instructions wait for each other.
    """

    function: str
    processor: str
    registers: int
    instructions: float
    spills: float
    throughput: float
    chain: float


class MissingError(Exception):
    """There is no llvm-mca that knows all processors."""


def llvm_mca() -> str:
    """Return the path of llvm-mca, the newest that there is.

    Raises
    ------
    MissingError
        If there is none, or it is older than release 18.
    """
    found = [name for version in range(30, 17, -1) if (name := shutil.which(f"llvm-mca-{version}"))]
    if not found and (plain := shutil.which("llvm-mca")):
        text = subprocess.run([plain, "--version"], capture_output=True, text=True).stdout
        version = re.search(r"version (\d+)", text)
        found = [plain] if version and int(version[1]) >= 18 else []
    if not found:
        raise MissingError(
            "needs llvm-mca of LLVM 18 or newer (Debian, Ubuntu: apt install llvm-19)"
        )
    return found[0]


def analyse(functions: Sequence[str], processors: Sequence[str]) -> Iterator[Result]:
    """Yield the results of all functions on one group of processors, those with the same vectors, after the other."""
    program = llvm_mca()
    ordered = sorted(processors, key=lambda name: _vectors(PROCESSORS[name]))
    for _, group in groupby(ordered, key=lambda name: _vectors(PROCESSORS[name])):
        names = list(group)
        for function, codes in _in_new_process([PROCESSORS[name] for name in names], functions):
            for name, code in zip(names, codes, strict=True):
                yield _result(program, function, name, hot_block(code))


def _vectors(processor: Processor) -> tuple[str, str]:
    return processor.triple, processor.features


def _in_new_process(
    processors: Sequence[Processor], functions: Sequence[str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    # A process builds kernels for vectors of one size.
    with get_context("spawn").Pool(1) as pool:
        for function in functions:
            yield function, pool.apply(assemblies, (processors, function))


def _result(program: str, function: str, processor: str, block: HotBlock) -> Result:
    known = PROCESSORS[processor]
    outputs = 1 if function.startswith("math.") else 2
    elements = block.bytes_stored // outputs // 4
    registers = elements * 4 // known.vector_bytes
    summary = _summary(program, known, block)
    return Result(
        function,
        processor,
        registers,
        block.vector_instructions / registers,
        block.spills / registers,
        summary["BlockRThroughput"] / elements,
        summary["TotalCycles"] / _ITERATIONS / elements,
    )


def _summary(program: str, processor: Processor, block: HotBlock) -> dict[str, Any]:
    command = [
        program,
        f"-mtriple={processor.triple}",
        f"-mcpu={processor.cpu}",
        f"-iterations={_ITERATIONS}",
        "-json",
    ]
    done = subprocess.run(
        command, input="\n".join(block.lines) + "\n", capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr.splitlines()[0])
    return json.loads(done.stdout)["CodeRegions"][0]["SummaryView"]  # type: ignore[no-any-return]


def read(file: Path) -> list[Result]:
    """Read results that were written as JSON."""
    return [Result(**each) for each in json.loads(file.read_text())]
