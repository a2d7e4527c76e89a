"""Importing fastact is silent and loads nothing heavy."""

from __future__ import annotations

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
            for name in fa.names():
                assert fa.get(name).formula and fa.get(name).__doc__
            print("numba" in sys.modules)
            """
        )
    )
    assert output.strip() == "False"
