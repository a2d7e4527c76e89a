"""One table for each operation, activation and size, for code reviews.

    pytest benchmarks/test_side_by_side.py
    pytest benchmarks/test_side_by_side.py -k "sigmoid and 1000000" --benchmark-json=sigmoid.json

Requires pytest-benchmark. All implementations that are installed take part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastact.bench.contenders import (
    ACTIVATIONS,
    OPERATIONS,
    installed_implementations,
    make_call,
)
from fastact.bench.workloads import Workload

if TYPE_CHECKING:  # asv imports this file without pytest
    import pytest

SIZES = (1_000, 1_000_000)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize over all operations, activations, sizes and implementations."""
    metafunc.parametrize("implementation", installed_implementations())
    metafunc.parametrize("elements", SIZES)
    metafunc.parametrize("activation", ACTIVATIONS)
    metafunc.parametrize("operation", OPERATIONS)


def test_speed(
    benchmark: Any, operation: str, activation: str, elements: int, implementation: str
) -> None:
    """Measure one call that returns new arrays."""
    import pytest

    try:
        call = make_call(Workload.of(activation, (elements,)), implementation, operation)
    except NotImplementedError as error:
        pytest.skip(str(error))
    benchmark.group = f"{operation}, {activation}, {elements:,} elements"
    benchmark.pedantic(call, rounds=30, iterations=max(1, 100_000 // elements), warmup_rounds=1)
