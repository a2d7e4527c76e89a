"""A kernel is compiled from what a user's function was at one moment, and found again only for the very same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from edited_activations import KINDS, VALUES, sources
from fresh_process import assert_clean, run_python

import fastact as fa
from fastact.custom.snapshot import Snapshot

# Imports each case, computes it at 3 and prints the result and the digest, last whether Numba had to compile.
RUN = """
    import importlib, sys
    import numpy as np
    for number in {numbers}:
        item = importlib.import_module(f"case_{{number}}").item
        print(float(item(np.float64(3.0))), item._definition._snapshot.digest)
    print("fastact.runtime.compiler" in sys.modules)
"""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)


def run(folder: Path, numbers: list[int], cache: Path) -> tuple[list[float], list[str], bool]:
    """Return all results in a fresh process, the digests, and whether anything was compiled."""
    script = RUN.format(numbers=numbers)
    done = assert_clean(run_python(script, path=folder, FASTACT_CACHE=str(cache)))
    *lines, compiled = done.splitlines()
    results, digests = zip(*(line.split() for line in lines), strict=True)
    return [float(each) for each in results], list(digests), compiled == "True"


def check_edits(cases: list[str], tmp_path: Path) -> None:
    """Edit every case in the one place that matters, and in those that do not, over one cache."""
    folder, cache = tmp_path / "sources", tmp_path / "cache"
    folder.mkdir()
    numbers = list(range(1, len(cases) + 1))
    before, after = VALUES
    seen: list[list[str]] = []
    for value, note, compiles in (
        (before, "a", True),
        (before, "a longer comment,\\nof two lines", False),
        (after, "a", True),
        (after, "b", False),
        (before, "c", False),
    ):
        for number, kind in zip(numbers, cases, strict=True):
            write(folder, sources(kind, number, value, note))
        results, digests, compiled = run(folder, numbers, cache)
        expected = [3 * value * number for number in numbers]
        wrong = [
            f"{kind}: {one}, not {other}"
            for kind, one, other in zip(cases, results, expected, strict=True)
            if one != other
        ]
        assert not wrong
        assert "None" not in digests, f"{cases[digests.index('None')]} is not cached"
        assert compiled is compiles, f"value {value}, note {note!r}"
        seen.append(digests)
    assert seen[0] == seen[1] == seen[4]
    assert seen[2] == seen[3]
    same = [kind for kind, one, other in zip(cases, seen[0], seen[2], strict=True) if one == other]
    assert set(same) <= {"default of a parameter"}  # which is an operand, and not in the code


def test_edits(tmp_path: Path) -> None:
    """Of each kind one."""
    check_edits(list(KINDS), tmp_path)


@pytest.mark.long
def test_many_edits(tmp_path: Path) -> None:
    """250 of random kinds, in one cache."""
    random.seed(0)
    check_edits([random.choice(list(KINDS)) for _ in range(250)], tmp_path)


MIXTURE = """
    import numpy as np
    import fastact as fa
    K = {before}
    def helper(x):
        return x * K
    @fa.activation
    def f(x):
        def inner(z):
            return helper(z)
        return inner(x)
    results = [float(f(np.float64(3.0)))]
    K = {after}
    results += [float(f(np.float32(3.0))), float(f.derivative(np.float64(3.0)))]
    results += [float(f.value_and_derivative(np.float32(3.0))[1]), float(f(np.float64(3.0)))]
    from numba import njit
    @njit
    def call(x):
        return f(x)
    print(*results, call(3.0))
"""


def test_a_constant_that_changes_between_two_types(tmp_path: Path) -> None:
    """All that is compiled of an activation agrees, and the next process finds nothing else."""
    for before, after in ((2.0, 7.0), (2.0, 2.0), (7.0, 2.0), (7.0, 7.0)):
        script = MIXTURE.format(before=before, after=after)
        done = assert_clean(run_python(script, FASTACT_CACHE=str(tmp_path)))
        assert [float(each) for each in done.split()] == [
            3 * before, 3 * before, before, before, 3 * before, 3 * before,
        ]  # fmt: skip


def test_another_learnable_parameter_is_another_kernel() -> None:
    def f(x: object, a: object = 2.0, b: object = 7.0) -> object:
        return x * a + b  # type: ignore[operator]

    items = [fa.activation(f)] + [fa.activation(learnable=name)(f) for name in ("a", "b")]
    assert len({item._definition.kernel_name("backward") for item in items}) == 3


def digest_of(source: str) -> str | None:
    scope: dict[str, object] = {"__name__": "somewhere"}
    exec(source, scope)
    return Snapshot(scope["f"]).digest  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x): return x", "def f(x):\n    'text'\n    return x"),
        ("def f(x): return x", "def f(x: float) -> float: return x"),
        ("K = 1\ndef f(x): return x", "K = 2\ndef f(x): return x"),
        ("def f(x): return x + 1", "# line\n\n\ndef f(x):\n\n    return x + 1"),
        ("def f(x):\n    return 'a'", "def f(x):\n    'a'\n    return 'a'"),
    ],
)
def test_what_does_not_matter(one: str, other: str) -> None:
    assert digest_of(one) == digest_of(other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x): return x + 1", "def f(x): return x - 1"),
        ("def f(x): return x + 1", "def f(x): return x + 1.0"),
        ("def f(x): return x + 1", "def f(x): return x + True"),
        ("K = 0.0\ndef f(x): return x + K", "K = -0.0\ndef f(x): return x + K"),
        ("K = (1, 23)\ndef f(x): return K", "K = (12, 3)\ndef f(x): return K"),
        ("K = '1'\ndef f(x): return K", "K = 1\ndef f(x): return K"),
        ("A = B = 1\ndef f(x): return A", "A = B = 1\ndef f(x): return B"),
        ("def f(x): return abs(x)", "def abs(x): return x\ndef f(x): return abs(x)"),
        ("def f(x, y=1): return y", "def f(x, y=2): return y"),
        ("def f(x): return f(x, a=1)", "def f(x): return f(x, b=1)"),
        (
            "import numpy as np\nK = np.ones(2)\ndef f(x): return K[0]",
            "import numpy as np\nK = np.ones(2, 'f4')\ndef f(x): return K[0]",
        ),
        (
            "import numpy as np\nK = np.ones((2, 1))\ndef f(x): return K[0]",
            "import numpy as np\nK = np.ones((1, 2))\ndef f(x): return K[0]",
        ),
        (
            "def f(x):\n    for i in range(3): x = x + i\n    return x",
            "def f(x):\n    for i in range(3): x = x + i\n    else: x = x * 2\n    return x",
        ),
    ],
)
def test_what_matters(one: str, other: str) -> None:
    assert digest_of(one) != digest_of(other)


@pytest.mark.parametrize(
    "source",
    [
        "import ctypes\nK = ctypes.CFUNCTYPE(None)()\ndef f(x): return K",
        "K = object()\ndef f(x): return K",
        "K = {1: 2}\ndef f(x): return K[1]",
        "class Same(float):\n    def __repr__(self): return 'same'\nK = Same(2)\ndef f(x): return x * K",
        "import numpy as np\nfrom numba.extending import overload\n@overload(np.polyval)\n"
        "def meaning(p, x): return lambda p, x: 2 * x\ndef f(x): return np.polyval(1, x)",
        "import fastact as fa\nK = fa.activation(lambda x: x * J)\nJ = object()\ndef f(x): return K(x)",
    ],
)
def test_what_cannot_be_told_is_not_cached(source: str) -> None:
    assert digest_of(source) is None


def test_functions_that_call_each_other() -> None:
    source = """
def even(n): return True if n == 0 else odd(n - 1)
def odd(n): return False if n == 0 else even(n - {step})
def f(x): return even(x)
"""
    one, other = digest_of(source.format(step=1)), digest_of(source.format(step=2))
    assert None not in (one, other)
    assert one != other
    assert one == digest_of(source.format(step=1))


def test_the_compiler_sees_a_copy() -> None:
    """What the snapshot has not found is no name to the compiler; what can change is copied."""
    import numpy as np

    table = np.array([1.0, 2.0])
    items = [1.0, table]

    def f(x: object) -> object:
        return table[0] + items[0]  # type: ignore[operator]

    copied = Snapshot(f).function  # type: ignore[arg-type]
    closure = dict(zip(f.__code__.co_freevars, copied.__closure__ or (), strict=True))
    table[0] = items[0] = 5.0
    assert closure["table"].cell_contents[0] == 1.0
    assert closure["items"].cell_contents[0] == 1.0
    assert set(copied.__globals__) == {"__name__", "__builtins__"}
    assert fa.activation(f)._definition._snapshot.digest is not None  # type: ignore[attr-defined, arg-type]
