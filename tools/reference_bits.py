"""Write ``tests/data/bits.txt``: hashes of the bits that every function gives, in every operation and type.

    python tools/reference_bits.py

Run it after a change that alters results on purpose, and commit the file; what has changed is printed. Tests compare the
file with what the processor at hand computes. It compiles every kernel: three minutes on two cores.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import bits  # type: ignore[import-not-found]


def hashes() -> Iterator[tuple[tuple[str, str], str]]:
    """Yield label and type of each result, and its hash."""
    cases = list(product(bits.CALLS, bits.DTYPES))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=context) as pool:
        found = pool.map(_hash, cases)
        for done, pair in enumerate(zip(cases, found, strict=True), 1):
            print(f"\r{done} of {len(cases)}", end="", file=sys.stderr, flush=True)
            yield pair
    print(file=sys.stderr)


def _hash(case: tuple[str, str]) -> Any:
    return bits.computed(*case)


def main() -> None:
    """Write the file, and say what is different from before."""
    before = bits.recorded() if bits.FILE.exists() else {}
    after = dict(hashes())
    bits.FILE.parent.mkdir(exist_ok=True)
    bits.FILE.write_text(bits.table(after))
    different = [case for case in after if before.get(case) != after[case]]
    print("\n".join(" ".join(case) for case in different) or "nothing is different from before")


if __name__ == "__main__":
    main()
