"""Kernels need nothing but the C library: what a user writes works in every process, or is refused by its name."""

from __future__ import annotations

import ctypes
import math
from pathlib import Path

import pytest
from fresh_process import assert_clean, run_python

from fastact.runtime.compiler import C_LIBRARY

# Bodies of functions of x, and what they compute.
WORK = {
    "c = np.array([1.0, 0.5, 0.25]); return c[0] + x * (c[1] + x * c[2])": lambda x: (
        1 + x * (0.5 + x * 0.25)
    ),
    "c = np.array([[1.0, 2.0], [3.0, 4.0]]); return x * c[1, 0] + c[0][1]": lambda x: x * 3 + 2,
    "c = np.array([1.0, 2 * K, -math.pi]); return x * c[1] + c[2]": lambda x: x * 6 - math.pi,
    "c = np.linspace(0, 1, 5); return x * c[2] + len(c)": lambda x: x / 2 + 5,
    "c = np.array([3.0, 4.0], dtype=np.float32); return x * c.sum()": lambda x: x * 7,
    "c = [1.0, 0.5]; return x * c[0] + c[-1]": lambda x: x + 0.5,
    "y = x * 0\n    for k in [1.0, 2.0, 3.0]: y = y * x + k\n    return y": lambda x: (
        x * x + 2 * x + 3
    ),
    "c = np.arange(1.0, 40.0); y = x * 0\n    for i in range(len(c)): y = y / 2 + c[i] * x\n    return y": (
        lambda x: x * sum((40 - 1 - i) / 2**i for i in range(39))
    ),
    "t = (1.0, 2.0); y = x\n    for i in range(2): y = y + t[i]\n    return y": lambda x: x + 3,
    "return x * math.erf(0.5) + math.lgamma(3.5)": lambda x: x * math.erf(0.5) + math.lgamma(3.5),
    "return x * 2.0**0.3 + 7 // 2 + 7 % 4 + math.hypot(3.0, 4.0)": lambda x: x * 2**0.3 + 11,
    "assert K > 1; return x * K": lambda x: x * 3,
}

# Bodies, and what is named where they are refused.
REFUSED = {
    "c = np.zeros(3); c[0] = 2.0; return x * c[0]": "np.zeros (line 4)",
    "c = [1.0]; c.append(2.0); return x * c[1]": "a list (line 4)",
    "c = [i * 2.0 for i in range(3)]; return x * c[1]": "a list (line 4)",
    "c = {1: 2.0}; return x * c[1]": "a dict (line 4)",
    "return x * math.gamma(3.5)": "math.gamma (line 4)",
    "return x * math.frexp(3.5)[0]": "math.frexp (line 4)",
    "return x * math.ldexp(3.5, 2)": "math.ldexp (line 4)",
    "return x * np.nextafter(1.0, 2.0)": "np.nextafter (line 4)",
    "return x * np.random.random()": "np.random.random (line 4)",
    "print('here'); return x": "print (line 4)",
    "t = (1.0, 2.0); y = x\n    for i in range(3): y = y + t[i]\n    return y": (
        "an index that may be out of bounds (line 5)"
    ),
    "c = np.ones(2); y = x\n    for i in range(3): y = y + c[i]\n    return y": (
        "an index that may be out of bounds (line 5)"
    ),
    "if math.lgamma(K) > 0.1: raise ValueError(K)\n    return x": "raise (line 4)",
    "return x * helper(2.0)": "math.gamma (line 2)",
}


def run(bodies: list[str], folder: Path) -> tuple[list[str], bool]:
    """Return what a fresh process says of each function, and whether anything was compiled there."""
    modules = [
        "import math, numpy as np, fastact as fa; K = 3.0\n"
        f"def helper(z): return math.gamma(z)\ndef f(x):\n    {body}\n"
        for body in bodies
    ]
    for number, text in enumerate(modules):
        (folder / f"module_{number}.py").write_text(text)
    script = f"""
        import importlib, sys
        import numpy as np
        import fastact as fa
        for number in range({len(bodies)}):
            item = fa.activation(importlib.import_module(f"module_{{number}}").f)
            out = np.full(3, 7.0)
            try:
                print(*item(np.array([-1.0, 0.5, 2.0]), out=out))
            except RuntimeError as error:
                print(error)
                assert (out == 7).all()
        print("fastact.runtime.compiler" in sys.modules)
    """
    cache = str(folder / "cache")
    *lines, compiled = assert_clean(
        run_python(script, path=folder, FASTACT_CACHE=cache)
    ).splitlines()
    assert len(lines) == len(bodies), lines
    return lines, compiled == "True"


def test_in_two_processes(tmp_path: Path) -> None:
    lines, compiled = run(list(WORK), tmp_path)
    assert compiled
    for line, (body, formula) in zip(lines, WORK.items(), strict=True):
        expected = [formula(x) for x in (-1.0, 0.5, 2.0)]
        assert [float(each) for each in line.split()] == pytest.approx(expected, rel=1e-14), body
    assert run(list(WORK), tmp_path) == (lines, False)


def test_refused_by_its_name(tmp_path: Path) -> None:
    """In one line, with outputs untouched; and nothing of it is stored that a later process might run."""
    lines, _ = run(list(REFUSED), tmp_path)
    for line, (body, named) in zip(lines, REFUSED.items(), strict=True):
        assert named in line, body
    # The two functions of the inner loop, and the digest of the sources.
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_the_process_has_what_kernels_may_refer_to() -> None:
    process = ctypes.CDLL(None)
    assert not {name for name in C_LIBRARY if not hasattr(process, name)}
