"""Run the suites of all libraries, and print a table in Markdown: ``python -m tools.foreign_suites [NAME ...]``.

The exit status is 1 if a test passes without fastact only, or a suite does not run.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

COUNTS = re.compile(r"^(?:with|without) fastact: (\d+) passed, (\d+) failed, (\d+) skipped$", re.M)


def main(chosen: list[str]) -> int:
    """Run the suites, and return the exit status."""
    names = sorted(each.stem for each in Path(__file__).parent.glob("[!_]*.py"))
    rows, status = [], 0
    for name in chosen or [each for each in names if each != "comparison"]:
        command = [sys.executable, "-m", f"tools.foreign_suites.{name}"]
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
