"""Options and helpers that all tests share."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from fresh_process import assert_clean, run_python


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests marked long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        skip = pytest.mark.skip(reason="takes many minutes; --long runs it")
        for item in items:
            if "long" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def warm_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache folder with all kernels that the jobs of `fresh_process` need."""
    folder = tmp_path_factory.mktemp("warm-cache")
    script = "from fresh_process import *; check_all(SMALL); check_all(LARGE)"
    assert_clean(run_python(script, FASTACT_CACHE=str(folder)))
    return folder


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


def pytest_xdist_auto_num_workers() -> int:
    """Each process grows to some GB as kernels compile."""
    return min(os.cpu_count() or 1, 4)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a file to one worker: two would compile the same kernels at once, a third more time in all."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)
