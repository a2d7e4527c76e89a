"""Options and helpers that all tests share."""

from __future__ import annotations

import os
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests marked long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        skip = pytest.mark.skip(reason="takes many minutes; --long runs it")
        for item in items:
            if "long" in item.keywords:
                item.add_marker(skip)


def pytest_xdist_auto_num_workers() -> int:
    """Each process grows to some GB as kernels compile."""
    return min(os.cpu_count() or 1, 4)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a file to one worker: two would compile the same kernels at once, a third more time in all."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)
