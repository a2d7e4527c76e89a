"""How a call is divided among threads: what the inner loop and the simulation of it share.

`benchmarks.schedule` shows what these rules cost and gain on up to 128 cores. They are integer
arithmetic in plain Python, which is compiled into the inner loop.
"""

from __future__ import annotations

# A thread that loses its core for a while, or has a slow one, holds up the call for one chunk. With 4 chunks for each
# thread and half of the cores half as fast, the simulation takes a tenth longer than with 16; 32 are no better.
CHUNKS_PER_THREAD = 16
# Whole cache lines of any type, so that no two threads write to the same one.
CHUNK_MULTIPLE = 64
# Two threads pay from the threshold on, where the call's whole price is set against half of its work. On a larger
# machine as many take part at once as get a sixth of it each: the threads wake each other, so that one more adds little.
# From 3 to 12, the simulation loses least with 6: 1.04 in mean against the best number of threads, awake, and 1.02 asleep.
SHARES_OF_THRESHOLD = 6
# A team of fixed size starts if there is work for one in so many of its threads: it may be asleep as a whole.
FIXED_TEAM_SHARE = 8


def wanted_threads(elements: int, threshold: int) -> int:
    """Return how many threads a call is worth."""
    return 1 if elements < threshold else SHARES_OF_THRESHOLD * elements // threshold


def thread_count(wanted: int, available: int, has_fixed_team: int) -> int:
    """Return how many threads take part.

    TBB forms a team for each call, which takes longer the larger it is. OpenMP starts and ends
    threads whenever the size of its team changes: all take part, or one.
    """
    if has_fixed_team != 0:
        return available if wanted > 1 and wanted * FIXED_TEAM_SHARE >= available else 1
    return min(wanted, available)


def chunk_length(iterations: int, elements: int, threads: int, least: int) -> int:
    """Return how many iterations of a loop are one chunk.

    Parameters
    ----------
    iterations : int
        Those of the whole call.
    elements : int
        The elements of one iteration.
    threads : int
        How many take part.
    least : int
        The fewest elements worth a chunk.
    """
    length = max(least // elements, -(-iterations // (threads * CHUNKS_PER_THREAD)))
    multiple = max(1, CHUNK_MULTIPLE // elements)
    return max(1, -(-length // multiple)) * multiple
