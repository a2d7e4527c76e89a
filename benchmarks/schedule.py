"""Simulate how a call is divided among up to 128 threads, on a machine that need not be at hand.

    python -m benchmarks.schedule
    python -m benchmarks.schedule --nanoseconds 1.2 --asleep
    python -m benchmarks.schedule --row 4096 --openmp
    python -m benchmarks.schedule --chart docs/images/parallelism.svg

How many threads and how large a chunk is asked of the library (`fastact.runtime.schedule`). The machine is a model:

- The calling thread spends `launch` on a call, and `slot` on each thread of its team, for which TBB sets up an arena.
- It wakes two threads, each of these two more, and so on; a wake-up takes `wake`.
- A thread that has nothing to do takes the next chunk, at a cost of `take`, until there is none. Threads of OpenMP have
  theirs from the beginning, and the call waits for all of them.
- An element takes as long as its arithmetic or its bytes, whichever is longer. What fits the caches of the cores that take
  part costs no bytes; beyond that all share the bandwidth of memory, of which one thread alone gets `alone`.
- Every other core is `slow` times as slow, as in processors of two kinds of cores; `noise` is the share of its time that a
  core gives to something else, for `pause` at a time.

It knows no nodes of memory, no threads that share a core, and no clock that falls when all cores are busy.

Each cell says how many times as fast as on one thread a call is with as many threads as its column allows; behind it, if
that is more than 1 %, how many times as long it takes as with the best number of threads up to there.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from fastact.runtime import schedule
from fastact.runtime.settings import CHUNK_SIZE, PARALLEL_THRESHOLD

THREADS = (2, 4, 8, 16, 32, 64, 128)
SIZES = (10**3, 10**4, 10**5, 3 * 10**5, 10**6, 3 * 10**6, 10**7, 10**8)
#: A wake-up of a thread that sleeps.
ASLEEP = 16.0
_RUNS = 7  # of which the median counts, with noise


@dataclass(frozen=True)
class Machine:
    """The costs of a call: microseconds, bytes, and bytes a nanosecond.

    The first two were measured on two cores of Emerald Rapids with TBB 2023.2; the bandwidth is that of twelve channels of DDR5,
    and the rest is assumed.
    """

    launch: float = 2.0
    slot: float = 0.15
    wake: float = 1.0
    take: float = 0.1
    nanoseconds: float = 0.2  # of arithmetic an element: relu's
    bytes: float = 16.0  # an element: two inputs and two outputs of float32
    cache: float = 2.0**21  # of a core
    bandwidth: float = 300.0
    alone: float = 14.0
    slow: float = 1.0
    noise: float = 0.0
    pause: float = 1000.0
    openmp: bool = False

    def time_of(self, elements: int, threads: int, total: int) -> float:
        """Return how long a thread takes for some elements of a call."""
        fits = total * self.bytes <= threads * self.cache
        memory = 0.0 if fits else self.bytes / min(self.alone, self.bandwidth / threads)
        return elements * max(self.nanoseconds, memory) / 1000


def simulate(machine: Machine, rows: int, row: int, threads: int, seed: int = 0) -> float:
    """Return the microseconds of a call of so many rows of so many elements on a number of threads."""
    total = rows * row
    if threads == 1:
        return machine.time_of(total, 1, total)
    draw = random.Random(seed)
    chunk = schedule.chunk_length(rows, row, threads, CHUNK_SIZE.number)
    begin = machine.launch + machine.slot * threads
    ready = [(begin, 0)]
    for thread in range(1, threads):  # a heap as it is: each is later than the one that wakes it
        ready.append((ready[(thread - 1) // 2][0] + machine.wake, thread))
    chunks = -(-rows // chunk)
    end = begin
    for k in range(chunks):
        # OpenMP has dealt the chunks out beforehand.
        place = k * threads // chunks if machine.openmp else 0
        now, thread = ready[place]
        elements = (min(rows, (k + 1) * chunk) - k * chunk) * row
        time = machine.time_of(elements, threads, total) * (machine.slow if thread % 2 else 1.0)
        if machine.noise and draw.random() < machine.noise * time / machine.pause:
            time += machine.pause
        now += machine.take + time
        if machine.openmp:
            ready[place] = now, thread
        else:
            heapq.heapreplace(ready, (now, thread))
        end = max(end, now)
    return max(end, max(ready)[0]) if machine.openmp else end


def threads_of(machine: Machine, rows: int, row: int, available: int) -> int:
    """Return how many threads the library uses for a call."""
    wanted = schedule.wanted_threads(rows * row, PARALLEL_THRESHOLD.number)
    return schedule.thread_count(wanted, available, int(machine.openmp))


def typical(machine: Machine, rows: int, row: int, threads: int) -> float:
    """Return the median of several simulations, or the only result if nothing is random."""
    runs = _RUNS if machine.noise else 1
    return statistics.median(simulate(machine, rows, row, threads, seed) for seed in range(runs))


def cell(machine: Machine, rows: int, row: int, available: int) -> tuple[float, float]:
    """Return the gain over one thread, and the loss against the best number of threads."""
    alone = typical(machine, rows, row, 1)
    own = typical(machine, rows, row, threads_of(machine, rows, row, available))
    others = [typical(machine, rows, row, n) for n in THREADS if n <= available]
    return alone / own, own / min(own, alone, *others)


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.schedule",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for each in fields(Machine):
        if each.type == "bool":
            parser.add_argument(f"--{each.name}", action="store_true")
        else:
            parser.add_argument(f"--{each.name}", type=float, default=each.default)
    parser.add_argument("--asleep", action="store_true", help=f"the same as --wake {ASLEEP:g}")
    parser.add_argument("--row", type=int, default=1, help="elements that one thread must take")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw a chart, too")
    options = vars(parser.parse_args(arguments))
    row, is_asleep, chart = (options.pop(name) for name in ("row", "asleep", "chart"))
    machine = Machine(**options | ({"wake": ASLEEP} if is_asleep else {}))
    gains: dict[int, list[float]] = {}
    print(f"{'elements':>12}" + "".join(f"{threads:>8}     " for threads in THREADS).rstrip())
    for size in SIZES:
        cells = [cell(machine, max(1, size // row), row, available) for available in THREADS]
        gains[max(1, size // row) * row] = [gain for gain, _ in cells]
        texts = (
            f"{gain:8.1f}" + (f" {loss:.2f}" if loss > 1.01 else 5 * " ") for gain, loss in cells
        )
        print(f"{max(1, size // row) * row:12,}{''.join(texts)}".rstrip())
    if chart:
        draw(gains, chart)


def draw(gains: Mapping[int, Sequence[float]], file: Path) -> None:
    """Draw how many times as fast calls of each size are, by the number of threads, if any are used."""
    from matplotlib.figure import Figure

    from fastact.show.theme import line_style, save, theme

    with theme():
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        ax = figure.subplots()
        ax.loglog(THREADS, THREADS, color="0.5", linewidth=1, label="as many as CPUs")
        shown = {size: found for size, found in gains.items() if max(found) > 1}
        for number, (size, found) in enumerate(shown.items()):
            ax.loglog(THREADS, found, label=f"{size:,}", marker=".", **line_style(number))
        ax.set(xlabel="CPUs", ylabel="times as fast as one thread", ylim=(0.8, None))
        ax.set_xticks(THREADS, map(str, THREADS), minor=False)
        ax.set_xticks([], minor=True)
        ax.yaxis.set_major_formatter(lambda gain, _: f"{gain:g}")
        ax.grid(alpha=0.3)
        ax.legend(title="elements", fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
        save(figure, file)


if __name__ == "__main__":
    main()
