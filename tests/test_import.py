"""Importing fastact is silent and loads nothing heavy."""

from __future__ import annotations

import os

import pytest
from fresh_process import assert_clean, run_python


def test_import_loads_nothing_heavy() -> None:
    output = assert_clean(
        run_python(
            """
            import sys
            import fastact
            print(sorted({name.partition(".")[0] for name in sys.modules}))
            """
        )
    )
    heavy = {
        "llvmlite",
        "ml_dtypes",
        "numba",
        "scipy",
        "matplotlib",
        "sklearn",
        "torch",
        "jax",
        "rich",
        "typer",
    }
    assert not heavy & set(eval(output))


def test_names_and_metadata_need_no_compiler() -> None:
    output = assert_clean(
        run_python(
            """
            import sys
            import fastact as fa
            for name in fa.names("activation"):
                assert fa.get(name).formula and fa.get(name).__doc__
            print("numba" in sys.modules)
            """
        )
    )
    assert output.strip() == "False"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_any_module_may_be_the_first() -> None:
    """No order of imports is the only one that works: each module in a process that has none.

    Backends may lack their library.
    """
    script = """
        import os, pkgutil, sys
        import matplotlib, numba, numpy, rich, typer
        import fastact
        names = [found.name for found in pkgutil.walk_packages(fastact.__path__, "fastact.")]
        for name in [each for each in sys.modules if each.startswith("fastact")]:
            del sys.modules[name]
        for name in names:
            child = os.fork()
            if child == 0:
                try:
                    __import__(name)
                    import fastact
                    fastact.relu, fastact.set_num_threads, fastact.activation
                except BaseException as error:
                    is_backend = name.startswith("fastact.backends.")
                    if not (is_backend and isinstance(error, ImportError)):
                        print(name, repr(error), flush=True)
                        os._exit(1)
                os._exit(0)
            os.waitpid(child, 0)
    """
    assert assert_clean(run_python(script)) == ""
