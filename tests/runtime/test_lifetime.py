"""What NumPy and compiled code point to lives for ever: whatever becomes of fastact's modules, and at the very end.

Each script runs in a process of its own, which a pointer to freed memory ends, sooner or later: what is freed is
written over at once.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from textwrap import dedent

import pytest
from fresh_process import assert_clean, run_python

import fastact

START = """
    import gc
    import importlib
    import sys

    import numpy as np
    from fresh_process import LARGE, check_all, in_fork

    import fastact as fa

    X = np.linspace(-4, 4, LARGE)

    def is_right(ufunc, dtype):
        x = X.astype(dtype)
        return np.allclose(ufunc(x), np.maximum(x, 0))

    def write_over_what_is_free():
        gc.collect()
        return [bytes([255]) * size for size in range(16, 1024) for _ in range(20)]

    def ours():
        return [name for name in sys.modules if name.partition(".")[0] == "fastact"]
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return run_python(dedent(START) + dedent(script))


MODULES = [
    "fastact." + ".".join(path.relative_to(Path(fastact.__file__).parent).with_suffix("").parts)
    for path in sorted(Path(fastact.__file__).parent.rglob("*.py"))
    if path.stem not in ("__init__", "__main__")
]


@pytest.mark.parametrize(
    "name",
    [
        "runtime.ufunc",
        "runtime.threads",
        "runtime.pool",
        "system.memory_layout",
        "runtime.loading",
        "runtime.output_pool",
    ],
)
def test_a_module_that_is_loaded_anew(name: str) -> None:
    """Ufuncs of before run loops that they had, and load loops that they had not; the pool starts; errors rise."""
    script = f"""
        ufunc = fa.relu.ufuncs["forward"]
        assert is_right(ufunc, "f4")
        for _ in range(2):
            importlib.reload(importlib.import_module("fastact.{name}"))
            kept = write_over_what_is_free()
            assert is_right(ufunc, "f4")
            assert is_right(ufunc, "f8")
            check_all()
            check_all(LARGE)
    """
    assert_clean(run(script))


def test_all_modules_loaded_anew() -> None:
    script = f"""
        ufunc = fa.relu.ufuncs["forward"]
        ufunc(X[:10])
        for name in {MODULES}:
            if name in ours():
                importlib.reload(sys.modules[name])
                kept = write_over_what_is_free()
        assert is_right(ufunc, "f4")
        assert is_right(ufunc, "f8")
        assert is_right(fa.relu.ufuncs["forward"], "f8")
    """
    assert_clean(run(script))


def test_modules_that_are_forgotten() -> None:
    """Both the old ones and new ones work, on threads and in forked children, until the old ones are gone."""
    script = """
        def check_both():
            for each in (fa, new):
                assert is_right(each.relu, "f4")
                y, dx = each.tanh.forward_backward(X, X)
                np.testing.assert_allclose(y, np.tanh(X), 1e-12)
                np.testing.assert_allclose(each.softmax(X.reshape(100, -1)).sum(axis=1), 1, 1e-12)

        check_all(LARGE)
        new = fa
        check_both()
        early = fa.relu.ufuncs["forward"]
        for name in ours():
            del sys.modules[name]
        kept = write_over_what_is_free()
        import fastact as new

        assert new is not fa
        check_both()
        in_fork(check_both)
        check_all(LARGE)
        fa = new
        kept = write_over_what_is_free()
        assert is_right(early, "f4")
        check_both()
        in_fork(check_both)
    """
    assert_clean(run(script))


def test_a_kernel_that_does_not_compile_after_its_module_was_loaded_anew() -> None:
    """The error's class, which compiled code raises, is there as well."""
    script = """
        @fa.activation
        def wrong(x):
            return no_such_thing(x)

        ufunc = wrong.ufuncs["forward"]
        importlib.reload(sys.modules["fastact.runtime.ufunc"])
        for _ in range(3):
            kept = write_over_what_is_free()
            try:
                ufunc(X)
            except RuntimeError as error:
                print("no_such_thing" in str(error))
    """
    assert assert_clean(run(script)).split() == ["True"] * 3


@pytest.mark.parametrize(
    "last",
    [
        "atexit.register(late)",
        "in_module = late()",
        "sys.in_sys = late()",
        "cycle = [late()]; cycle.append(cycle)",
    ],
)
def test_at_the_end_of_the_process(last: str) -> None:
    """A ufunc is called when atexit's functions run, when modules are taken apart, and by what outlives them."""
    script = f"""
        import atexit
        import os

        def late(relu=fa.relu.ufuncs["forward"], x=np.array([-1.0, 2.0]), write=os.write):
            class Late:
                def __del__(self):
                    write(1, str(float(relu(x)[1])).encode())

            return Late()

        fa.relu(X)
        {last}
    """
    assert assert_clean(run(script)) == "2.0"
