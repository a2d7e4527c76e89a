"""mypy and pyright find a wrong formula before the compiler does: a mask for a vector, or a branch on either."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[2]

#: Other than functions on vectors: functions on rows, and on groups.
_OTHERS = ("__init__", "definition", "losses", "maxout", "normalized")
_FILES = [
    file
    for folder in ("catalogue", "vecmath")
    for file in sorted((ROOT / "fastact" / folder).glob("*.py"))
    if file.stem not in _OTHERS
]

_SNIPPET = """\
from __future__ import annotations

from fastact.simd import IntVector, Mask, PerDtype, Vector, any_lane, bits, fma, from_bits, isnan
from fastact.simd import lookup, polynomial, select, sqrt, to_float
from fastact.vecmath import exp, expm1_and_exp

ONE = PerDtype(float32=1.0, float64=1.0)
SHIFT = PerDtype(float32=23, float64=52)
TABLE = PerDtype(float32=(1.0, 2.0), float64=(1.0, 2.0))


def f(x: Vector, m: Mask, n: IntVector, alpha: Vector = 1.0) -> Vector:
    {line}
    return x
"""

RIGHT = (
    "x = 0.5 * x + x / alpha - 1",
    "x = alpha * 2 - (1 - alpha) / alpha",
    "x = select(x > 0, 0, x)",
    "x = select((alpha == 0) & ~isnan(x) | (x != 1), 1, -abs(x))",
    "x = fma(x, 2, ONE) + x * ONE - ONE / x - (-ONE)",
    "x = select(x < ONE, ONE, x**2)",
    "x = polynomial(x, TABLE) + sqrt(2 * x) * exp(alpha)",
    "x = from_bits((bits(x) >> SHIFT) + 1 & 3 | n << 2 ^ n) + to_float(n - SHIFT)",
    "x = lookup(TABLE, n)",
    "if any_lane(x > 0): x = x + 1",
    "while any_lane(m): x, m = x - 1, x > 0",
    "x, y = expm1_and_exp(x)",
    "x += 1",
    "x = f(0, x > 0, n) + f(1.5, m & (1 > x), n, 2)",
)

WRONG = (
    # A mask for a vector, and the reverse.
    "x = x > 0",
    "x = x * (x > 0)",
    "x = (x > 0) * x",
    "x = 1 - m",
    "x = x + m",
    "x = -m",
    "x = abs(m)",
    "x = fma(m, x, x)",
    "x = exp(m)",
    "x = f(x, x, n)",
    "x = select(x, x, x)",
    "x = select(0.5, x, x)",
    "x = select(x > 0, m, x)",
    "m = x & m",
    "m = ~x",
    "m = m | x",
    "any_lane(x)",
    "x = x > m",
    # Integers for floats, and the reverse.
    "x = x + n",
    "x = fma(n, x, x)",
    "x = exp(bits(x))",
    "n = bits(n)",
    "n = n & x",
    "m = n & m",
    "x = select(n, x, x)",
    # Tables are no numbers.
    "x = x + TABLE",
    "x = polynomial(x, ONE)",
    # A Python branch.
    "if x > 0: x = -x",
    "if 0 < x: x = -x",
    "if x == 0: x = -x",
    "if x != 0.5: x = -x",
    "if x == ONE: x = -x",
    "if alpha > 0: x = -x",
    "if m: x = -x",
    "if x: x = -x",
    "if n: x = -x",
    "if ONE > x: x = -x",
    "if m & (x > 0): x = -x",
    "if not m: x = -x",
    "if not x > 0: x = -x",
    "if x > 0 and x < 1: x = -x",
    "if x < 0 or x > 1: x = -x",
    "if 0 < x < 1: x = -x",
    "while x > 0: x = x - 1",
    "while m: x = x - 1",
    "assert x > 0",
    "x = -x if x > 0 else x",
    "x = -x if m else x",
    "m = not m",
    "m = not x",
    "x = sum(x for _ in range(3) if x > 0)",
    # Python's functions, which would branch or convert.
    "x = max(x, 0)",
    "x = min(x, alpha)",
    "x = float(x)",
    "x = round(x)",
    "x = x**alpha",
)

#: pyright checks conditions, not the operands of ``and`` and ``or``, and takes ``==`` from the left operand.
WRONG_TO_MYPY = (
    "if 0 == x: x = -x",
    "if m == m: x = -x",
    "m = m and m",
    "m = m or m",
    "m = x > 0 and x < 1",
    "m = x < 0 or m",
    "x = x and alpha",
    "m = 0 < x < 1",
)


def _checked_by(run: Callable[[Path], dict[str, str]]) -> dict[str, str]:
    """Return what a checker says of each line: nothing, or its messages."""
    lines = (*RIGHT, *WRONG, *WRONG_TO_MYPY)
    with TemporaryDirectory() as folder:
        for k, line in enumerate(lines):
            (Path(folder) / f"snippet_{k}.py").write_text(_SNIPPET.format(line=line))
        messages = run(Path(folder))
    unknown = set(messages) - {f"snippet_{k}.py" for k in range(len(lines))}
    assert not unknown, messages
    return {line: messages.get(f"snippet_{k}.py", "") for k, line in enumerate(lines)}


@cache
def _mypy() -> dict[str, str]:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")

    def run(folder: Path) -> dict[str, str]:
        options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(folder / "c")]
        command = [sys.executable, "-m", "mypy", *options, *map(str, folder.glob("*.py"))]
        environment = os.environ | {"MYPYPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 1, done.stdout + done.stderr
        messages: dict[str, str] = {}
        for name, message in re.findall(
            r"^(?:.*/)?([^/]+\.py):\d+: error: (.*)$", done.stdout, re.M
        ):
            messages[name] = messages.get(name, "") + message + "\n"
        return messages

    return _checked_by(run)


@cache
def _pyright() -> dict[str, str]:
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed")

    def run(folder: Path) -> dict[str, str]:
        (folder / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)]}))
        command = [sys.executable, "-m", "pyright", "--outputjson", "--project", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        messages: dict[str, str] = {}
        for each in json.loads(done.stdout)["generalDiagnostics"]:
            name = Path(each["file"]).name
            messages[name] = messages.get(name, "") + each["message"] + "\n"
        return messages

    return _checked_by(run)


@pytest.mark.parametrize("line", RIGHT)
@pytest.mark.parametrize("checker", [_mypy, _pyright])
def test_right_formulas_are_accepted(checker: Callable[[], dict[str, str]], line: str) -> None:
    assert not checker()[line]


@pytest.mark.parametrize("line", WRONG)
@pytest.mark.parametrize("checker", [_mypy, _pyright])
def test_wrong_formulas_are_rejected(checker: Callable[[], dict[str, str]], line: str) -> None:
    assert checker()[line]


@pytest.mark.parametrize("line", WRONG_TO_MYPY)
def test_wrong_formulas_are_rejected_by_mypy(line: str) -> None:
    assert _mypy()[line]


def test_message_of_a_branch_says_what_to_write() -> None:
    assert "use select(mask, a, b)" in _mypy()["if x > 0: x = -x"]


@pytest.mark.parametrize("folder", ["catalogue", "vecmath"])
def test_pyright_accepts_the_package(folder: str) -> None:
    pytest.importorskip("pyright")
    command = [sys.executable, "-m", "pyright", f"fastact/{folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.stem)
def test_nothing_is_any(file: Path) -> None:
    names = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Name)]
    assert "Any" not in [node.id for node in names]


def test_types_need_no_numba() -> None:
    script = (
        "import sys, fastact.simd.types, fastact.catalogue.gated; assert 'numba' not in sys.modules"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
