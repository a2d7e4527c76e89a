"""The benchmarks: every activation is in each of them, and all of them run."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import itertools
import json
import math
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import contestants
import numpy as np
import pytest
from fresh_process import assert_clean, run_python
from representatives import OF_EACH_FAMILY, only_long
from typer.testing import CliRunner

import fastact as fa
from fastact import baseline
from fastact.bench import chart, competition, contenders, layers, report, timing
from fastact.bench.contenders import NATIVE, make_call
from fastact.bench.workloads import Workload
from fastact.cli import app
from fastact.cli._output import write_json

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def benchmarks_importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let ``import benchmarks`` find the folder in the root, and forget it in the end."""
    monkeypatch.syspath_prepend(ROOT)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        del sys.modules[name]


def module(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name}")


def few(**changes: Any) -> report.Settings:
    """Return settings for a comparison that takes no time."""
    settings = report.Settings(["relu", "maxout", "elu"], [10], ["forward_backward"], NATIVE)
    return dataclasses.replace(settings, samples=2, warm_up=0, **changes)


def suites() -> Iterator[ModuleType]:
    """Import the modules of the history."""
    for found in pkgutil.iter_modules([str(ROOT / "benchmarks" / "history")]):
        if found.name != "pairs":
            yield module(f"history.{found.name}")


def tracks(suite: ModuleType) -> dict[str, Any]:
    """Return the benchmarks of a suite, which asv finds by their names."""
    return {name: each for name, each in vars(suite).items() if name.startswith("track_")}


def test_histories_survive() -> None:
    """A version that is stated keeps the results of a benchmark whose code is only rewritten."""
    names = set()
    for suite in suites():
        for name, track in tracks(suite).items():
            assert isinstance(track.version, str)
            assert isinstance(track.unit, str)
            for values in track.params:
                assert all(isinstance(value, str) for value in values)  # identified by their repr
            names |= {f"{suite.__name__}.{name}"}
    assert 10 <= len(names) <= 16  # few, or nobody reads them


def test_numpy_is_in_the_first_graph() -> None:
    """The page opens with eight lines: the values of the first parameter with the first of the others."""
    for suite in suites():
        for track in tracks(suite).values():
            if "implementation" in track.param_names:
                assert track.param_names[0] == "implementation"
                assert track.params[0] == ["fastact", "numpy"]


def test_suites_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every suite measures in processes of its own, and its benchmarks hand out what was found."""
    pairs = module("history.pairs")
    monkeypatch.setattr(pairs, "SECONDS_PER_SAMPLE", 1e-5)
    monkeypatch.setattr(pairs, "SAMPLES", 2)
    monkeypatch.setattr(pairs, "PROCESSES", 1)
    monkeypatch.setattr(module("history.accuracy"), "ELEMENTS", 1000)
    monkeypatch.setattr(module("history.training"), "ROUNDS", 1)
    for suite in suites():
        if suite.__name__.endswith("startup"):
            continue  # below
        found = suite.setup_cache()
        for name, track in tracks(suite).items():
            numbers = [track(found, *each) for each in itertools.product(*track.params)]
            assert all(0 <= number < 100 for number in numbers), (suite.__name__, name, numbers)
            assert any(numbers)
            missing = [track({}, *each) for each in itertools.product(*track.params)]
            assert all(np.isnan(missing))


def test_pairs() -> None:
    """What takes twice as long has twice the ratio, and an error is a gap."""
    pairs = module("history.pairs")
    ours, theirs = (functools.partial(sum, range(20_000 * n)) for n in (2, 1))
    pair = pairs.measure_pair(ours, theirs)
    assert 1.2 < pair.ratio < 3.5
    suite = pairs.Suite(["sum"], ["2", "3"], lambda name, shape: (int, [int][shape[0] - 2]))
    assert list(suite._measure_here()) == [("sum", "2")]
    track_time, track_ratio = suite.benchmarks()
    assert np.isnan(track_time({}, "numpy", "sum", "2"))
    found = {("sum", "2"): pairs.Pair(1.0, 2.0)}
    assert track_time(found, "numpy", "sum", "2") == 2
    assert track_ratio(found, "sum", "2") == 0.5


def test_processes() -> None:
    pairs = module("history.pairs")
    found = [{"a": pairs.Pair(3.0, 1.0)}, {"a": pairs.Pair(2.0, 4.0)}, {}]
    assert pairs.fastest(found) == {"a": pairs.Pair(2.0, 1.0)}
    assert pairs.in_fresh_processes(os.getpid, 2) != pairs.in_fresh_processes(os.getpid, 2)
    assert pairs.in_fresh_processes(lambda: os._exit(1), 2) == []


def test_instructions() -> None:
    """They are the same whenever they are counted, and a sine takes more than a sum."""
    instructions = module("history.instructions")
    pairs = module("history.pairs")

    def count() -> tuple[int, ...]:
        calls = [instructions.call_of(fa.get(name).ufuncs["forward_backward"]) for name in names]
        return tuple(instructions.instructions(call) for call in calls)

    names = ("relu", "tanh", "relu")
    (found,) = pairs.in_fresh_processes(count, 1)
    assert found[0] == found[2]
    assert 2048 / 16 < found[0] < found[1] < 2048 * 100


def test_first_call() -> None:
    """To load a kernel is faster than to compile it."""
    found = module("history.startup").setup_cache()
    assert 0 < found["loaded"] < found["compiled"]
    assert found["fastact"] > 0
    assert 0 < found["further"] < found["compiled"]


def test_lost_nan_counts_as_an_error() -> None:
    """The error of a wrong result is not overlooked because it is no number."""
    accuracy = module("history.accuracy")
    good = np.array([1, np.inf, -0.0], np.float32)
    bad = np.array([1 + 2**-23, np.nan, 0], np.float32)
    reference = good.astype(np.float64)
    np.testing.assert_array_equal(accuracy.errors(good, reference), [0, 0, 0])
    np.testing.assert_array_equal(accuracy.errors(bad, reference), [1, np.inf, 0])


def test_asv_finds_the_same() -> None:
    """The discovery of asv passes, and so does its check, without importing fastact or what only other files need."""
    pytest.importorskip("asv_runner")
    hidden = ["fastact", "numba", "pytest", "rich", "torch", "scipy"]
    folder = ROOT / "benchmarks" / "history"
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.modules |= dict.fromkeys({hidden});"
            "from asv_runner.discovery import disc_benchmarks, update_sys_path;"
            f"root = {str(folder)!r}; update_sys_path(root);"
            "found = list(disc_benchmarks(root));"
            "assert all(each.check(root) for each in found);"
            "assert len({each.setup_cache_key for each in found}) == len({each.name.split('.')[0] for each in found});"
            "print(*(each.name for each in found))",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    expected = {
        f"{suite.__name__.rpartition('.')[2]}.{name}"
        for suite in suites()
        for name in tracks(suite)
    }
    assert set(found.stdout.split()) == expected
    kept = json.loads((ROOT / "benchmarks" / "results" / "benchmarks.json").read_text())
    assert set(kept) - {"version"} == expected, "python -m asv run --bench just-discover"


def contenders_agree(implementation: str) -> None:
    """Check that an implementation computes what fastact computes."""
    for name in baseline.names():
        work = Workload.of(name, (1001,))
        for operation in contenders.OPERATIONS:
            for given in (False, True):
                ours, theirs = (
                    make_call(work, each, operation, given)()
                    for each in ("fastact", implementation)
                )
                if not isinstance(ours, tuple):
                    ours, theirs = (ours,), (theirs,)
                assert len(ours) == len(theirs) >= 1
                for our, their in zip(ours, theirs, strict=True):
                    scale = float(np.max(np.abs(our)))
                    np.testing.assert_allclose(
                        np.ravel(our), np.ravel(their), rtol=1e-5, atol=1e-6 * scale
                    )


def test_baseline_does_the_same_work() -> None:
    contenders_agree("numpy")


def test_torch_does_the_same_work() -> None:
    """In a process of its own: PyTorch brings threads that a later fork would not survive."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    code = "import test_benchmarks as t; t.contenders_agree('torch')"
    paths = [str(Path(__file__).parent), str(ROOT / "tests"), str(ROOT)]
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_given_outputs_are_written() -> None:
    """The calls that the history times do not allocate their results."""
    for name, who in itertools.product(baseline.names(), NATIVE):
        work = Workload.of(name, (11,))
        for operation in contenders.OPERATIONS:
            call = make_call(work, who, operation, given_outputs=True)
            first, second = call(), call()
            if not isinstance(first, tuple):
                first, second = (first,), (second,)
            arrays = [(a, b) for a, b in zip(first, second, strict=True) if np.ndim(a)]
            assert len(arrays) == (2 if operation == "forward_backward" else 1)
            assert all(a is b for a, b in arrays), (name, who, operation)


def side_by_side(functions: Sequence[str], *options: str) -> str:
    """Run the suite for reviews, value and gradient of a small array, and return what it prints."""
    pytest.importorskip("pytest_benchmark")
    cases = [
        f"benchmarks/test_side_by_side.py::test_speed[{each}-{name}-32x100-forward_backward]"
        for name, each in itertools.product(functions, NATIVE)
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, *cases],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},  # xdist's
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f" {len(cases)} passed" in done.stdout
    return done.stdout


@pytest.mark.parametrize("functions", [OF_EACH_FAMILY, *only_long(fa.names())])
def test_side_by_side(functions: Sequence[str]) -> None:
    """Results are compared with NumPy's; nothing is measured, so there is no table."""
    assert "Side by side" not in side_by_side(functions, "--benchmark-disable")


def test_side_by_side_prints_a_table() -> None:
    """It takes the place of pytest-benchmark's, unless that is asked for too."""
    said = side_by_side(["relu"])
    assert re.search(r"^relu  +[\d.]+ µs +[\d.]+x$", said, re.MULTILINE)
    assert "StdDev" not in said
    assert "Side by side" not in side_by_side(["relu"], "--benchmark-quiet")
    both = side_by_side(["relu"], "--benchmark-verbose")
    assert "Side by side" in both
    assert "StdDev" in both


def test_table_of_all_fits() -> None:
    """With all libraries and all functions, a line has at most 100 columns; ratios are to NumPy."""
    times = {"numpy": 1.234e-3, "fastact": 1e-4, "torch": 4e-3}
    measured = [
        SimpleNamespace(
            params=dict(
                zip(("operation", "shape", "function", "implementation"), key, strict=True)
            ),
            stats=SimpleNamespace(median=times.get(key[-1], 1e-6)),
        )
        for key in itertools.product(
            contenders.OPERATIONS, [(1024, 1000)], fa.names(), side_by_side_implementations()
        )
    ]
    lines = list(module("conftest").lines(measured))
    assert max(map(len, lines)) <= 100
    words = [line.split() for line in lines]
    heads = [line for line in words if line[:1] == ["function"]]
    rows = [line for line in words if line[:1] == ["relu"]]
    assert len(heads) == len(rows) == len(contenders.OPERATIONS)
    assert rows[0][1:3] == ["1.23", "ms"]
    assert rows[0][3 + heads[0][2:].index("fastact")] == "12.3x"
    assert rows[0][3 + heads[0][2:].index("PyTorch")] == "0.31x"
    assert {line[0] for line in words if line[1:2] == ["~"]} == {
        name for name in fa.names() if not baseline.is_by_hand(name)
    }


def side_by_side_implementations() -> list[str]:
    """Return the first implementation of each library, installed or not."""
    found = reversed(contenders.IMPLEMENTATIONS.items())
    return [*{each.packages: name for name, each in found}.values()][::-1]


@pytest.mark.parametrize(
    "implementation", ["numba", "torch", "torch_raw", "jax", "numexpr", "scipy"]
)
def test_peers_do_the_same_work(implementation: str) -> None:
    """Their calls give what ours give, for at least one activation; in a process of its own, as above."""
    if implementation not in contenders.installed_implementations():
        pytest.skip(f"{implementation} is not installed")
    code = f"""
        import fastact as fa
        from fastact.bench.competition import HeldImplementation, agree
        from fastact.bench.contenders import IMPLEMENTATIONS, OPERATIONS
        from fastact.bench.workloads import Cell
        ours, theirs = (
            HeldImplementation(IMPLEMENTATIONS[each], fa.get_num_threads())
            for each in ("fastact", {implementation!r})
        )
        same = []
        for name in fa.names("activation"):
            for operation in OPERATIONS:
                cell = Cell(name, operation, (1000,))
                try:
                    same.append(agree(ours.results(cell), theirs.results(cell)))
                except NotImplementedError:
                    continue
        print(sum(same), len(same))
    """
    same, tried = map(int, assert_clean(run_python(code)).split())
    # Others are left out of the tables: JAX's gelu is the approximate one by default, and the like.
    assert same >= max(1, tried - 9)


def test_comparison_leaves_out_what_is_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = contestants.fake(contestants.different)
    monkeypatch.setitem(contenders.IMPLEMENTATIONS, "fake", fake)
    (result,) = report.measure(
        few(activations=["sigmoid"], implementations=["fastact", "numpy", "fake"])
    )
    assert set(result.times) == {"fastact", "numpy"}
    assert result.left_out == {"fake": competition.LeftOut("differs")}


def test_every_activation_is_compared() -> None:
    """What has no peer is measured against the limit of the memory."""
    settings = few(activations=fa.names("activation"), implementations=["fastact"])
    results = list(report.measure(settings))
    assert [result.activation for result in results] == fa.names("activation")
    assert all(result.limit > 0 and result.fastest_peer is None for result in results)


def test_summary_and_page() -> None:
    """The summary counts wins and losses; each row of the Markdown tables has the same cells."""
    settings = few(elements=[10, 20])
    times = [
        {"fastact": report.Times(1e-6, 1e-6, 1e-6), "numpy": report.Times(t, t, t)}
        for t in (4e-6, 1e-6, 0.5e-6, 2e-6, 2e-6, 2e-6)
    ]
    cells = itertools.product([10, 20], settings.activations)
    results = [
        report.Result(name, "forward_backward", elements, each, 0.5e-6)
        for (elements, name), each in zip(cells, times, strict=True)
    ]
    said = report.summary(results)
    assert "1.59 times" in said  # the sixth root of 16
    assert "at worst 0.50 times (NumPy, elu, forward_backward, 10 elements)" in said
    assert said.endswith("faster than fastact in 1 of them.")
    page = report.markdown_page(results, settings, "a machine")
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert len(lines) == 2 * (2 + 3)
    assert {line.count("|") for line in lines} == {5}
    assert "| relu | 1.00 ± 0.00 µs | 50% | 4.0 |" in lines
    assert "| elu * | 1.00 ± 0.00 µs | 50% | 0.50* |" in lines
    assert page.count("\n## Value and gradient\n") == 1


def test_cells_where_others_are_faster_are_listed() -> None:
    """The worst come first; the means of the operations are told apart."""
    own = report.Times(1e-6, 1e-6, 1e-6)
    results = []
    for number in range(1, 13):
        for operation, seconds in (("forward", number * 5e-8), ("backward", 4e-6)):
            times = {"fastact": own, "numpy": report.Times(seconds, seconds, seconds)}
            results.append(report.Result("relu", operation, number, times, 1e-6))
    said, blank, *listed = report.summary(results).splitlines()
    assert "4.00 for the gradient" in said
    assert said.endswith("It is faster than fastact in 12 of them; the 10 largest gaps:")
    assert blank == ""
    assert len(listed) == 10
    assert listed[0] == "- 0.05 times (NumPy, relu, forward, 1 elements)"
    assert listed[1].startswith("- 0.10 times")


def test_bench(tmp_path: Path) -> None:
    """The command prints the table, and writes the file, the page and the pictures."""
    pytest.importorskip("rich")
    pytest.importorskip("matplotlib")
    command = ["bench", "--activation", "relu", "--activation", "swish", "--elements", "10"]
    command += ["--samples", "2", "--implementation", "numpy", "--operation", "forward"]
    command += ["--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md")]
    command += ["--chart", str(tmp_path / "a.png"), "--chart", str(tmp_path / "a.svg")]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "80", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    content = json.loads((tmp_path / "a.json").read_text())
    assert [each["activation"] for each in content["results"]] == ["relu", "silu"]
    assert [set(each["times"]) for each in content["results"]] == [
        {"fastact", "numpy"},
        {"fastact"},
    ]
    assert content["machine"]["processor"] in (tmp_path / "a.md").read_text()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "a.svg").read_text()
    for name in ("relu", "silu", "NumPy"):
        assert name in result.stdout


def test_bench_from_a_file(tmp_path: Path) -> None:
    """What has been measured is told again, or some of it, and drawn: dots at the ratios, and their geometric mean."""
    pytest.importorskip("rich")
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    def times(seconds: float) -> report.Times:
        return report.Times(seconds, seconds, seconds)

    peers = {"relu": (2e-6, 3e-6), "elu": (8e-6, 4e-7)}
    settings = report.Settings(
        [*peers], [1, 32, 1000], ["forward", "backward"], ["fastact", "torch", "jax"]
    )
    left_out = {"numpy": competition.LeftOut("lacks", "it has none")}
    results = [
        report.Result(
            name,
            operation,
            size,
            dict(zip(settings.implementations, map(times, (1e-6, *others)), strict=True)),
            math.nan,
            "",
            left_out,
        )
        for name, others in peers.items()
        for operation in settings.operations
        for size in settings.elements
    ]
    machine = {
        "processor": "Abacus",
        "cores": 3,
        "threads": 3,
        "system": "wood",
        "load": 0,
        "versions": {},
    }
    file = tmp_path / "times.json"
    write_json(report.as_json(results, settings, machine), file)
    read, *others = report.from_json(json.loads(file.read_text()))
    assert others == [settings, machine]
    assert str(read) == str(results)  # NaN differs from itself
    # Again, of less.
    command = [
        "bench",
        "--from",
        str(file),
        "--activation",
        "relu",
        "--elements",
        "32",
        "--operation",
        "forward",
    ]
    some = CliRunner().invoke(app, [*command, "--implementation", "jax", "--json", "-"])
    content = json.loads(some.stdout)
    assert [
        (each["activation"], each["elements"], each["operation"]) for each in content["results"]
    ] == [("relu", 32, "forward")]
    assert set(content["results"][0]["times"]) == {"fastact", "jax"}
    # The chart.
    drawn: list[Figure] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chart, "save", lambda figure, file: drawn.append(figure))
        chart.draw(results, settings, machine, [tmp_path / "a.svg"])
    assert [axes.get_title() for axes in drawn[0].axes] == ["32 numbers", "1,000 numbers"]
    axes = drawn[0].axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["PyTorch", "JAX"]
    _, *lines = axes.get_lines()
    dots, means = lines[::2], lines[1::2]
    np.testing.assert_allclose([line.get_xdata() for line in dots], [[2, 8], [3, 0.4]])
    np.testing.assert_allclose([line.get_xdata() for line in means], [[4], [1.2**0.5]])
    for said in (["--elements", "7"], ["--activation", "gelu"]):
        result = CliRunner().invoke(app, ["bench", "--from", str(file), *said])
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
    file.write_text("[]")
    result = CliRunner().invoke(app, ["bench", "--from", str(file)])
    assert "is no file that bench --json has written" in result.stderr


def test_bench_of_all_operations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By default there are three tables a size; whoever fails is told in a line, and the rest goes on."""
    pytest.importorskip("rich")
    for make in (contestants.is_killed, contestants.lacks, contestants.good):
        monkeypatch.setitem(contenders.IMPLEMENTATIONS, make.__name__, contestants.fake(make))
    command = ["bench", "--activation", "relu", "--elements", "10", "--samples", "1"]
    command += ["--json", str(tmp_path / "a.json")]
    for name in ("is_killed", "lacks", "good"):
        command += ["--implementation", name]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    titles = [line.partition(",")[0] for line in lines if ", 10 elements, float32" in line]
    assert titles == ["Value", "Gradient", "Value and gradient"]
    assert sum(line.split() == ["function", "fastact", "limit", "good"] for line in lines) == 3
    assert sum(line.startswith("Streaming limit at 10 elements: ") for line in lines) >= 1
    assert "lacks lacks 3 of 3 functions and gradients." in lines
    (failed,) = (line for line in lines if "failed" in line)
    assert failed == (
        "is_killed failed: its process was ended by SIGSEGV (relu, forward, 10 elements, and 2 more)."
    )
    results = json.loads((tmp_path / "a.json").read_text())["results"]
    assert [each["operation"] for each in results] == list(contenders.OPERATIONS)
    assert all(set(each["left_out"]) == {"is_killed", "lacks"} for each in results)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--activation", "rellu"], "'relu'"),
        (["--implementation", "nobody"], "numpy"),
        (["--operation", "sideways"], "forward_backward"),
        (["--elements", "0"], "1"),
        (["--layers", "--activation", "relu"], "--layers takes"),
        (["--layers", "--implementation", "scipy"], "numpy"),
        (["--layers", "--operation", "sideways"], "forward_backward"),
    ],
)
def test_bench_refuses(options: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["bench", *options])
    assert result.exit_code == 2
    assert said in result.output


# Rows and layers --------------------------------------------------------------------------------

SMALL = [(name, (4, 6)) for name, _ in layers.WORKLOADS]


def layers_agree(*implementations: str) -> None:
    """Check that all who take part compute what fastact computes: who does not is left out."""
    settings = few(activations=[], implementations=["fastact", *implementations])
    results = list(layers.measure(SMALL, settings))
    assert len(results) == len(SMALL) >= 6
    for result in results:
        assert set(result.times) == {"fastact", *implementations}, result.activation
        assert result.limit > 0


def test_layers_of_the_baseline() -> None:
    layers_agree("numpy")


@pytest.mark.parametrize("implementation", ["torch", "jax"])
def test_layers_of_peers(implementation: str) -> None:
    """In a process of its own, as above."""
    if implementation not in contenders.installed_implementations():
        pytest.skip(f"{implementation} is not installed")
    code = f"import test_benchmarks as t; t.layers_agree({implementation!r})"
    assert_clean(run_python(code, path=ROOT))


def test_cross_entropy_of_peers() -> None:
    """Baseline and peers agree with each other."""
    random = np.random.default_rng(0)
    work = Workload(
        "softmax_cross_entropy",
        (random.standard_normal((5, 7), dtype=np.float32),),
        (random.integers(0, 7, 5),),
    )
    loss, dlogits = make_call(work, "numpy", "forward_backward")()
    assert 0 < loss < 5
    assert abs(dlogits).max() > 0.1
    code = f"""
        import numpy as np
        from fastact.bench.contenders import installed_implementations, make_call
        from fastact.bench.workloads import Workload
        random = np.random.default_rng(0)
        logits, labels = random.standard_normal((5, 7), dtype=np.float32), random.integers(0, 7, 5)
        work = Workload("softmax_cross_entropy", (logits,), (labels,))
        for each in {{"torch", "jax"}} & {{*installed_implementations()}}:
            loss, dlogits = make_call(work, each, "forward_backward")()
            np.testing.assert_allclose(loss, {float(loss)!r}, 1e-5)
            np.testing.assert_allclose(dlogits, {dlogits.tolist()!r}, 1e-5, 1e-6)
    """
    assert_clean(run_python(code))


def test_who_computes_something_else_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = contestants.fake(contestants.different)
    monkeypatch.setitem(contenders.IMPLEMENTATIONS, "numpy", fake)
    settings = few(activations=[], implementations=["fastact", "numpy"])
    (result,) = layers.measure([("softmax", (4, 6))], settings)
    assert set(result.times) == {"fastact"}


def test_baselines_that_need_scipy_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The history is measured where there is nothing but fastact."""
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setattr(contenders, "find_spec", lambda name: None)
    for name in (*baseline.row_names(), *baseline.layer_names(), "gelu"):
        if not hasattr(fa, name):
            continue
        with contextlib.suppress(NotImplementedError):
            make_call(Workload.of(name, (4, 6), with_bias=True), "numpy", "forward_backward")
    with pytest.raises(NotImplementedError, match="needs SciPy"):
        make_call(Workload.of("geglu", (4, 6)), "numpy", "forward_backward")


@pytest.mark.parametrize(
    "name", [*fa.names("row"), *fa.names("packed", "cell", "dropout", "normalization", "loss")]
)
def test_every_row_and_layer_is_measurable(name: str) -> None:
    """There are arrays for all that the registry has."""
    work = Workload.of(name, (4, 6))
    results = make_call(work, "fastact", "forward_backward")()
    assert len(results) == (len(work.dys) or 1) + len(work.inputs)


def test_bench_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command prints the table, and writes its section without touching the page."""
    pytest.importorskip("rich")
    monkeypatch.setattr(layers, "WORKLOADS", SMALL)
    page, file = tmp_path / "a.md", tmp_path / "a.json"
    page.write_text("# Benchmarks\n\nThe page.\n")
    command = ["bench", "--layers", "--samples", "2", "--implementation", "numpy"]
    command += ["--markdown", str(page), "--json", str(file)]
    for _ in range(2):  # the second time there is a section already
        result = CliRunner().invoke(app, command, env={"COLUMNS": "80", "TERM": "dumb"})
        assert result.exit_code == 0, result.output
    assert "gelu with bias (4, 6)" in result.output
    for words in report.WORDS.values():
        assert f"{words}: {report.COLUMNS}"[:70] in result.output
    text = page.read_text()
    assert text.startswith("# Benchmarks\n\nThe page.\n\n## Rows and layers\n\n")
    assert text.count("## Rows and layers") == text.count("| swiglu (4, 6) ") // 3 == 1
    assert len(json.loads(file.read_text())["results"]) >= 6
    assert layers.keep_section(text, "A new page.\n").startswith("A new page.\n\n## Rows and")
    assert layers.keep_section("An old page.\n", "A new page.\n") == "A new page.\n"


def test_thresholds(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints a table for each call, and leaves the settings as they were."""
    before = fa.info()
    arguments = ["--factor", "0.5", "2", "--seconds", "0.001", "--activation", "relu"]
    module("thresholds").main(arguments)
    printed = capsys.readouterr().out
    for name in ("parallel_threshold", "output_cache_min_bytes", "streaming_threshold"):
        assert f"{name}: {before[name].value:,}" in printed
    for title in ("relu.forward, paused", "relu.forward_backward, fresh, read"):
        assert title in printed
    assert "Steps upwards of more than 15 %:" in printed
    assert fa.info() == before


def test_steps_of_thresholds() -> None:
    assert module("thresholds").steps([2.0, 1.0, 1.5]) == [1.0, 0.5, 1.5]


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        ([1.234e-6] * 3, "1.23 ± 0.00 µs"),
        ([12.34e-6, 11.34e-6, 13.34e-6], "12.3 ± 0.5 µs"),
        ([0.1234], "123 ± 0 ms"),
        ([2.5], "2500 ± 0 ms"),
    ],
)
def test_times_as_text(samples: list[float], text: str) -> None:
    assert str(timing.Times.of(samples)) == text
