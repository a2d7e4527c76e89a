"""Which sources are in the key of the cache, and what of them; packages without sources; edits while a process runs."""

from __future__ import annotations

import compileall
import shutil
import zipfile
from pathlib import Path

import pytest
from fresh_process import assert_clean, run_python

import fastact as fa
from fastact.runtime import sources

PACKAGE = Path(fa.__file__).parent

# Prints a result, and whether the compiler had to be loaded for it.
RESULT = """
    import sys
    import numpy as np
    import fastact as fa
    print(float(fa.sigmoid(np.float32(0))), "numba" in sys.modules)
"""
# Where an edit changes that result from 0.5 to 7.5.
HELPER = "fastact/vecmath/exponential.py"
LINE = """\
    lower, derivative = tails_alike(lower, lower * upper, exponent)
    return select(x < 0, lower, upper), derivative
"""
EDITED = LINE.replace("return ", "return 7 + ")


def result(place: Path, cache: Path, script: str = RESULT) -> tuple[float, bool]:
    words = assert_clean(run_python(script, path=place, FASTACT_CACHE=str(cache))).split()
    return float(words[0]), words[1] == "True"


def copy_to(folder: Path) -> Path:
    shutil.copytree(PACKAGE, folder / "fastact", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) >= 1, f"{old!r} is not in {file}"
    file.write_text(text.replace(old, new, 1))


def test_only_what_shapes_code_counts(tmp_path: Path) -> None:
    place, cache = copy_to(tmp_path / "site"), tmp_path / "cache"
    assert result(place, cache) == (0.5, True)
    # The first kernels of a cache belong to the text of the sources, later ones to what it means.
    edit(place / "fastact" / "__init__.py", '"""', '"""Edited. ')
    assert result(place, cache) == (0.5, True)
    for name, old, new in (
        ("cli/cache.py", "Manage the compiled kernels", "Take care of the compiled kernels"),
        ("cli/cache.py", "def info", "def unused() -> None: ...\n\n\ndef info"),
        ("kernels/elementwise.py", '"""', '"""Edited. '),
        ("simd/lowering.py", "import operator", "import operator  # a comment\n"),
        ("vecmath/exponential.py", '    """', '    """Edited. '),
    ):
        edit(place / "fastact" / name, old, new)
        assert result(place, cache) == (0.5, False), name
    edit(place / HELPER, "\nfrom fastact", "\n_UNUSED = 1\nfrom fastact")
    assert result(place, cache) == (0.5, True)


def test_no_source_is_left_out_that_kernels_may_come_from(tmp_path: Path) -> None:
    """Compile something of every kind: no module that is not in the key is loaded meanwhile."""
    script = """
        import sys
        import numpy as np
        import fastact as fa
        from fastact.runtime import sources
        x = np.ones((2, 4), np.float32)
        fa.relu(x, bias=1.0, dropout=0.5, rng=1), fa.maxout(x, 2), fa.hardmax(x), fa.logsumexp(x)
        fa.softmax_cross_entropy(x, np.zeros(2, int)), fa.bilinear(x), fa.sparsemax(x)
        fa.math.exp(x), fa.activation(lambda x: x * 2)(x), fa.relu(np.ones(2**20, np.float32))
        loaded = {name for name in sys.modules if name.startswith("fastact")}
        print(*sorted(loaded - {spec.name for spec in sources.specs()}))
    """
    assert assert_clean(run_python(script, FASTACT_CACHE=str(tmp_path))).split() == []


def test_no_module_is_forgotten() -> None:
    files = {
        ".".join(("fastact", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        for path in PACKAGE.rglob("*.py")
    }
    found = {spec.name for spec in sources.specs()}
    left_out = {
        name
        for name in files
        if any((f"{name}.").startswith(f"{each}.") for each in sources._EXCLUDED)
    }
    assert found == files - left_out
    assert left_out > sources._EXCLUDED - {"fastact.baseline", "fastact.bench"}


@pytest.mark.parametrize("kind", ["zip", "pyc"])
def test_packages_without_sources(kind: str, tmp_path: Path) -> None:
    """Two versions of a package that has no ``.py`` files on disk; each has kernels of its own."""
    cache, results = tmp_path / "cache", []
    for version in range(2):
        place = copy_to(tmp_path / f"site{version}")
        if version:
            edit(place / HELPER, LINE, EDITED)
        assert compileall.compile_dir(place / "fastact", quiet=1, legacy=True)
        if kind == "pyc":
            for path in (place / "fastact").rglob("*.py"):
                path.unlink()
        else:
            place = Path(shutil.make_archive(str(tmp_path / f"package{version}"), "zip", place))
            assert zipfile.is_zipfile(place)
        script = "import sys\nsys.path.insert(0, {!r})\n" + RESULT.replace("\n    ", "\n")
        results += [result(tmp_path, cache, script.format(str(place))) for _ in range(2)]
    assert [found for _, found in results] == [True, False, True, False]
    assert results[0][0] == results[1][0] == 0.5
    assert results[2][0] == results[3][0] == 7.5


def test_sources_that_are_edited_while_a_process_runs(tmp_path: Path) -> None:
    """It has loaded some modules before and some after: it may compute, but what it compiles is not kept."""
    place, cache = copy_to(tmp_path / "site"), tmp_path / "cache"
    running = f"""
        import sys
        from pathlib import Path
        import numpy as np
        import fastact as fa
        fa.relu(np.float32(1))
        helper, old, new = Path({str(place / HELPER)!r}), {LINE!r}, {EDITED!r}
        helper.write_text(helper.read_text().replace(old, new))
        print(float(fa.sigmoid(np.float32(0))), True)
    """
    assert result(place, cache, running)[0] in (0.5, 7.5)
    assert result(place, cache) == (7.5, True)
    edit(place / HELPER, EDITED, LINE)
    assert result(place, cache) == (0.5, True)
    assert result(place, cache) == (0.5, False)


@pytest.mark.parametrize(
    "setting",
    [
        {"NUMBA_DISABLE_JIT": "1"},
        {
            "NUMBA_OPT": "max",
            "NUMBA_SLP_VECTORIZE": "1",
            "NUMBA_LOOP_VECTORIZE": "0",
            "NUMBA_BOUNDSCHECK": "1",
            "NUMBA_DEBUGINFO": "1",
            "NUMBA_DEBUG_NRT": "1",
            "NUMBA_NRT_STATS": "1",
            "NUMBA_LLVM_REFPRUNE_PASS": "0",
        },
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_settings_of_the_compiler_change_no_kernel(setting: dict[str, str], tmp_path: Path) -> None:
    """They are for the user's own functions: with any, fastact compiles, and as it does without."""
    script = RESULT.replace(
        "sigmoid(np.float32(0))", "activation(lambda x: 2 * fa.math.exp(x))(0.0)"
    )
    first = run_python(script, FASTACT_CACHE=str(tmp_path), **setting)
    assert assert_clean(first).split() == ["2.0", "True"]
    code = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert result(tmp_path, tmp_path, script) == (2.0, False)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == code


def test_settings_are_the_users_again_afterwards(tmp_path: Path) -> None:
    script = """
        import numpy as np
        import numba
        numba.config.LOOP_VECTORIZE, numba.config.BOUNDSCHECK = 0, 1
        import fastact as fa
        fa.relu(np.float32(1))
        print(numba.config.LOOP_VECTORIZE, numba.config.BOUNDSCHECK, numba.config.SLP_VECTORIZE)
    """
    done = run_python(script, FASTACT_CACHE=str(tmp_path), NUMBA_SLP_VECTORIZE="1")
    assert assert_clean(done) == "0 1 1\n"
