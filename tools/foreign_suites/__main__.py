"""Run the suites of all libraries, and print a table in Markdown: ``python -m tools.foreign_suites [NAME ...]``.

The exit status is 1 if a test passes without fastact only, or a suite does not run.
"""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys

from tools import foreign_suites

OTHERS = {"__main__", "comparison"}
COUNTS = re.compile(r"^(?:with|without) fastact: (\d+) passed, (\d+) failed, (\d+) skipped$", re.M)


def main(chosen: list[str]) -> int:
    """Run the suites, and return the exit status."""
    names = sorted(each.name for each in pkgutil.iter_modules(foreign_suites.__path__))
    rows, status = [], 0
    for name in chosen or [each for each in names if each not in OTHERS]:
        command = [sys.executable, "-m", f"{foreign_suites.__name__}.{name}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(done.stdout[-4000:] if done.returncode == 0 else done.stdout + done.stderr)
        found = COUNTS.findall(done.stdout)
        status = max(status, done.returncode, not found)
        cells = [" / ".join(each) for each in found[:2]] or ["does not run", ""]
        rows.append(f"| {name} | {cells[0]} | {cells[-1]} |")
    print("| tests of | passed / failed / skipped without fastact | with fastact |")
    print("|:--|--:|--:|", *rows, sep="\n")
    return min(status, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
