"""Options and helpers that all tests share."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from fresh_process import assert_clean, run_python

from fastact.runtime import cache_folder

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests marked long")


def pytest_configure(config: pytest.Config) -> None:
    """Turn warnings into errors where our own code gives rise to them: releases of others break no test."""
    scripts = [path.stem for folder in ("tests", "tools") for path in (ROOT / folder).rglob("*.py")]
    own = "|".join(["fastact", "benchmarks", *scripts])
    for line in (
        "default",
        rf"error:::({own})(\.|$)",
        f"error:::{re.escape(str(ROOT))}/",  # Numba names the file that it compiles
        "error::RuntimeWarning:numpy",  # functions of NumPy's compute with what they are given
        "error::pytest.PytestWarning",  # exceptions in threads and destructors among them
        # Last, and so before all others: who deprecates something blames its caller, which may be us.
        "default::DeprecationWarning",
        "default::PendingDeprecationWarning",
        "default::FutureWarning",
    ):
        config.addinivalue_line("filterwarnings", line)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # who inherits it ignored learns no exit code


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        skip = pytest.mark.skip(reason="takes many minutes; --long runs it")
        for item in items:
            if "long" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def filled_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that returns a cache folder with all kernels that a script needs: this run's, if it has one."""
    folder = cache_folder.directory() or tmp_path_factory.mktemp("warm-cache")

    def fill(script: str) -> Path:
        assert_clean(run_python(script, FASTACT_CACHE=str(folder)))
        return folder

    return fill


@pytest.fixture(scope="session")
def warm_cache(filled_by: Callable[[str], Path]) -> Path:
    """Return a cache folder with all kernels that the jobs of `fresh_process` need."""
    return filled_by("from fresh_process import *; check_all(SMALL); check_all(LARGE)")


@pytest.fixture(scope="session")
def installed_layers() -> set[str]:
    """Return the threading layers that this environment has."""
    layers = {"default", "workqueue"}
    if run_python("from numba.np.ufunc import omppool").returncode == 0:
        layers.add("omp")
    try:
        version("tbb")
        layers.add("tbb")
    except PackageNotFoundError:
        pass
    return layers


@pytest.fixture(scope="session")
def require_layer(installed_layers: set[str]) -> Callable[[str], str]:
    """Return a function that gives a threading layer back, or skips the test where it is not installed."""

    def require(layer: str) -> str:
        if layer not in installed_layers:
            pytest.skip(f"the layer {layer} is not installed")
        return layer

    return require


def pytest_xdist_auto_num_workers() -> int:
    """Each process grows to some GB as kernels compile."""
    return min(os.cpu_count() or 1, 4)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a file to one worker: two would compile the same kernels at once, a third more time in all."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)
