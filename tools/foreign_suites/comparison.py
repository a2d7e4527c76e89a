"""Other libraries' tests under pytest, without fastact and with it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]


def outcomes(tests: Sequence[str], *plugins: str) -> dict[str, str]:
    """Run tests of installed packages, and return "passed", "failed" or "skipped" by the test's name.

    Parameters
    ----------
    tests : sequence of str
        What pytest takes after ``--pyargs``, with further options.
    *plugins : str
        Modules that pytest loads as plugins before it imports the tests.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-c", os.devnull]
        command += ["-p", "no:cacheprovider", "--continue-on-collection-errors"]
        command += [f"-p{plugin}" for plugin in plugins]
        command += [f"--junitxml={report}", f"--rootdir={folder}", "--pyargs", *tests]
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, check=False)
        found: dict[str, str] = {}
        for case in ElementTree.parse(report).iter("testcase"):
            kinds = {each.tag for each in case}
            failed = kinds & {"failure", "error"}
            outcome = "failed" if failed else "skipped" if "skipped" in kinds else "passed"
            found[f"{case.get('classname')}.{case.get('name')}"] = outcome
        return found


def compare(without: Mapping[str, str], with_fastact: Mapping[str, str]) -> int:
    """Print counts, and the tests that do not pass with fastact alone; return how many these are.

    A plugin may skip a test that asks for what fastact refuses: it is printed and not counted.
    """
    for title, found in (("without fastact", without), ("with fastact", with_fastact)):
        counts = Counter(found.values())
        print(f"{title}: " + ", ".join(f"{counts[k]} {k}" for k in ("passed", "failed", "skipped")))
    worse = [
        name
        for name, outcome in without.items()
        if outcome == "passed" and with_fastact.get(name) != "passed"
    ]
    refused = [name for name in worse if with_fastact.get(name) == "skipped"]
    for name in worse:
        print(f"{'refused' if name in refused else 'passes only without fastact'}: {name}")
    return len(worse) - len(refused)
