"""The memory that a call takes beside its results, nothing that grows with the arrays, and that a kernel leaves."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fresh_process import assert_clean, run_python

import fastact as fa

PER_THREAD = 2**20
# What the allocator, the page tables and Python itself may take meanwhile.
SLACK = 2**18
SHAPES = [(16384, 1024), (256, 65536), (2**20, 16)]  # 64 MiB in float32
WITH_BIAS = ["relu", "gelu"]
# What has its own test: it stores a part of what it need not store as a whole.
IN_CHUNKS = {"linear_cross_entropy"}
PER_CHANNEL = {"batch_norm"}

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or "VmHWM" not in Path("/proc/self/status").read_text(),
    reason="needs the peak of a process's memory, and to set it back",
)

# The peak is set back to the present size when the kernels are there, the threads have started, the inputs
# have been touched, and nothing is kept for later that the call could take without being seen.
CHILD = """
    import json
    from pathlib import Path

    import numpy as np

    import fastact as fa
    from fastact.bench.contenders import IMPLEMENTATIONS
    from fastact.bench.workloads import Workload

    def peak():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

    def beside_results(call):
        kept = fa.output_cache_info().max_bytes
        fa.set_output_cache(max_bytes=0)
        fa.set_output_cache(max_bytes=kept)
        Path("/proc/self/clear_refs").write_text("5")
        before = peak()
        results = call()
        return peak() - before - sum(np.asarray(each).nbytes for each in results)

    def measure_chunks(rows, features, classes, chunk):
        random = np.random.default_rng(0)
        x, weight = (random.standard_normal((n, features), np.float32) for n in (rows, classes))
        labels = random.integers(0, classes, rows)
        compute = fa.linear_cross_entropy.forward_backward
        compute(x[:1024], weight, labels[:1024], chunk=chunk)  # BLAS keeps what it takes
        return beside_results(lambda: compute(x, weight, labels, chunk=chunk))

    def measure(name, shapes, who="fastact", extra=0):
        found = []
        for shape in shapes:
            small = max(2, 400_000 // shape[1]), shape[1]
            make = IMPLEMENTATIONS[who].make
            make(Workload.of(name, small, with_bias=True), "forward_backward")()
            call = make(Workload.of(name, shape, with_bias=True), "forward_backward")
            found.append(beside_results(lambda: (np.ones(extra, np.uint8), call())[1]))
        return found, fa.get_num_threads()
"""


def beside_results(arguments: str) -> tuple[list[int], int]:
    """Return how many bytes calls take beside their results, in a process of its own, and the threads."""
    taken, threads = in_child(f"measure({arguments})")
    return taken, threads


def in_child(expression: str) -> Any:
    """Return what an expression is in a process of its own."""
    code = f"{CHILD}\n    print(json.dumps({expression}))\n"
    # Memory that is freed goes back to the system at once.
    result = run_python(code, MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_="65536")
    return json.loads(assert_clean(result))


@pytest.mark.parametrize(
    "name",
    sorted(
        {*fa.names("row"), *fa.names("packed", "dropout", "normalization", "loss"), *WITH_BIAS}
        - IN_CHUNKS
        - PER_CHANNEL
    ),
)
def test_rows_layers_and_bias(name: str) -> None:
    """Value and gradients take at most 1 MiB for each thread, whatever the shape."""
    taken, threads = beside_results(f"{name!r}, {SHAPES}")
    assert max(taken) <= threads * PER_THREAD + SLACK, taken


@pytest.mark.parametrize("name", sorted(PER_CHANNEL))
def test_statistics_of_channels(name: str) -> None:
    """A dozen numbers of float64 for each channel are stored as well."""
    taken, threads = beside_results(f"{name!r}, {SHAPES}")
    for bytes_taken, (_, channels) in zip(taken, SHAPES, strict=True):
        assert bytes_taken <= threads * PER_THREAD + SLACK + 12 * 8 * channels, taken


def test_an_array_is_seen() -> None:
    """The baseline, which stores half of the features on the way, does not pass."""
    (taken,), _ = beside_results(f"'swiglu', {SHAPES[:1]}, 'numpy'")
    assert 30 * 2**20 < taken < 40 * 2**20


def test_little_more_is_seen() -> None:
    """An array that is a little larger than what is allowed does not pass."""
    extra = (fa.get_num_threads() + 1) * PER_THREAD
    taken, threads = beside_results(f"'softmax', {SHAPES}, extra={extra}")
    assert min(taken) > threads * PER_THREAD + SLACK, taken


def test_logits_in_chunks() -> None:
    """A linear layer with its loss takes at most a tenth of all logits; in one chunk, all of them.

    A second array of the size of `dweight` would be too much.
    """
    rows, features, classes = 8192, 384, 16384
    logits = rows * classes * 4
    taken = in_child(f"measure_chunks({rows}, {features}, {classes}, None)")
    assert taken <= logits / 10
    rows //= 8
    taken = in_child(f"measure_chunks({rows}, {features}, {classes}, {rows})")
    assert taken >= logits / 8


def test_what_compiling_leaves() -> None:
    """Numba and llvmlite by themselves would keep 2 MB for each kernel."""
    script = """
        import gc
        import resource

        import numpy as np

        import fastact as fa

        def resident():
            gc.collect()
            return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

        def compile(*names):
            for name in names:
                fa.get(name)(np.ones(1, "f4"))
                fa.get(name).derivative(np.ones(1, "f4"))

        compile("tanh", "softsign", "gelu")
        before = resident()
        compile("sigmoid", "softplus", "silu", "mish", "elu", "selu")
        print((resident() - before) / 12)
    """
    assert float(assert_clean(run_python(script, FASTACT_CACHE="0"))) < 2**20
