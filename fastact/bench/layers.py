"""The comparison of rows, layers and an activation with a bias: ``fastact bench --layers``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastact.bench import report
from fastact.bench.workloads import Workload

#: The functions, at shapes of classifiers, language models and attention; activations get a bias.
WORKLOADS: tuple[tuple[str, tuple[int, int]], ...] = (
    ("softmax", (8192, 1000)),
    ("softmax", (64, 50257)),
    ("softmax", (100_000, 16)),
    ("log_softmax", (8192, 1000)),
    ("softmax_cross_entropy", (8192, 1000)),
    ("swiglu", (4096, 8192)),
    ("layer_norm", (8192, 1000)),
    ("rms_norm", (8192, 1000)),
    ("batch_norm", (8192, 1000)),
    ("lstm_cell", (1024, 4096)),
    ("gru_cell", (1024, 3072)),
    ("gelu", (8192, 3072)),
)
OPERATION = "forward_backward"


def measure(
    workloads: Sequence[tuple[str, tuple[int, int]]], settings: report.Settings
) -> Iterator[report.Result]:
    """Measure all workloads; of the settings, only implementations and samples matter."""
    for name, shape in workloads:
        work = Workload.of(name, shape, with_bias=True)
        times, limit = report.measure_workload(work, OPERATION, settings, sample=work)
        yield report.Result(work.title, OPERATION, work.x.size, times, limit)


HEADING = "## Rows and layers\n"
_SECTION = (
    HEADING
    + """
Results of `fastact bench --layers`: value and gradients in one call, `fa.<name>.forward_backward(x, dy)`, with `bias=` for the
activation and `(logits, labels)` for the loss, which is the mean. Cells are one step without the matrix products, whose
gradients come from `vjp`. All is float32, with new outputs for every implementation; PyTorch is eager mode with automatic
differentiation (`torch.autograd.grad`), JAX one jitted function. They take turns as above. The streaming limit is a loop that
loads and stores as many bytes.

{machine}

{summary}

"""
)
TITLE = f"Value and gradients: {report.COLUMNS}"


def markdown_section(
    results: Sequence[report.Result], settings: report.Settings, machine: str
) -> str:
    """Return the last section of the page for the documentation."""
    table = report.markdown_table(TITLE, report.rows(results, settings.implementations, True))
    return _SECTION.format(machine=machine, summary=report.summary(results)) + table


def replace_section(page: str, section: str) -> str:
    """Return a page with its last section replaced."""
    return f"{page.partition(HEADING)[0].rstrip()}\n\n{section}".lstrip()


def keep_section(old_page: str, page: str) -> str:
    """Return a new page with the last section of the old one."""
    _, heading, section = old_page.partition(HEADING)
    return replace_section(page, heading + section) if heading else page
