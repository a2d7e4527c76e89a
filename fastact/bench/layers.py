"""The comparison of rows, layers and an activation with a bias: ``fastact bench --layers``."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from fastact.bench import report
from fastact.bench.workloads import Cell

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


def measure(
    workloads: Sequence[tuple[str, tuple[int, int]]], settings: report.Settings
) -> Generator[report.Result]:
    """Measure all workloads; of the settings, only operations, implementations and samples matter."""
    with report.competition_of(settings) as competition:
        for operation in settings.operations:
            for name, shape in workloads:
                cell = Cell(name, operation, shape)
                yield report.result_of(competition, cell, cell.title)


HEADING = "## Rows and layers\n"
_SECTION = (
    HEADING
    + """
Results of `fastact bench --layers`: value, gradients, and both in one call, `fa.<name>.forward_backward(x, dy)`, with `bias=`
for the activation and `(logits, labels)` for the loss, which is the mean. Cells are one step without the matrix products, whose
gradients come from `vjp`. All is float32, with new outputs for every implementation; PyTorch is eager mode with automatic
differentiation (`torch.autograd.grad`), JAX one jitted function. They take turns as above. The streaming limit loads
half of as many bytes and stores the other half.

{machine}

{notes}

{summary}

"""
)


def tables(
    results: Sequence[report.Result], settings: report.Settings, with_spread: bool = False
) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield the title and the cells of a table for each operation."""
    for operation in settings.operations:
        some = [result for result in results if result.operation == operation]
        title = f"{report.WORDS[operation]}: {report.COLUMNS}"
        yield title, report.rows(some, settings.implementations, with_spread)


def markdown_section(
    results: Sequence[report.Result], settings: report.Settings, machine: str
) -> str:
    """Return the last section of the page for the documentation."""
    head = _SECTION.format(
        machine=machine, notes=report.markdown_notes(results), summary=report.summary(results)
    )
    parts = [report.markdown_table(*table) for table in tables(results, settings, with_spread=True)]
    return head + "\n".join(parts)


def replace_section(page: str, section: str) -> str:
    """Return a page with its last section replaced."""
    return f"{page.partition(HEADING)[0].rstrip()}\n\n{section}".lstrip()


def keep_section(old_page: str, page: str) -> str:
    """Return a new page with the last section of the old one."""
    _, heading, section = old_page.partition(HEADING)
    return replace_section(page, heading + section) if heading else page
