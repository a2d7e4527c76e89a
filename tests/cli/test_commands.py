"""What holds for every command: help, examples, errors, JSON, and what it says where a package is missing."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fresh_process import run_python
from typer.main import get_command
from typer.testing import CliRunner, Result

import fastact
from fastact.bench import report, tuning
from fastact.bench.timing import Times
from fastact.cli import app
from fastact.cli._output import write_json


def tree(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the words that call a command, and each of its subcommands."""
    yield path
    for name, each in getattr(command, "commands", {}).items():
        yield from tree(each, *path, name)


ROOT = get_command(app)
COMMANDS = list(tree(ROOT))


def command_at(path: tuple[str, ...]) -> Any:
    """Return the command that some words call."""
    found: Any = ROOT
    for name in path:
        found = found.commands[name]
    return found


LEAVES = [path for path in COMMANDS if not hasattr(command_at(path), "commands")]


def run(*arguments: str, columns: int = 80) -> Result:
    """Run the command line as in a pipe."""
    result = CliRunner().invoke(
        app, arguments, prog_name="fastact", env={"COLUMNS": str(columns), "TERM": "dumb"}
    )
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("columns", [80, 40])
def test_help_of_each_command(path: tuple[str, ...], columns: int) -> None:
    """-h and --help say what it does, and how it is called, within the terminal."""
    short, long = (run(*path, option, columns=columns) for option in ("-h", "--help"))
    assert short.exit_code == 0
    assert short.stdout == long.stdout
    assert " ".join(["fastact", *path]) in short.stdout
    body, _, examples = short.stdout.partition("Examples:\n")
    assert max(map(len, body.splitlines())) <= columns
    assert examples.strip(), "it has no examples"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_first_sentence_and_options(path: tuple[str, ...]) -> None:
    """The first sentence is short, and everything else is said as well."""
    command = command_at(path)
    first = command.get_short_help_str(1000)
    assert 10 < len(first) <= 100, first
    for parameter in command.params:
        # Typer 0.19 beside Click 8.5 loses the help of arguments.
        assert parameter.help or parameter.param_type_name == "argument", parameter.name


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_examples_are_right(path: tuple[str, ...]) -> None:
    """Each is a call of this command, or of one below it, whose arguments it takes."""
    for line in (command_at(path).epilog or "").splitlines():
        program, *words = shlex.split(line)
        assert program == "fastact"
        called = max((each for each in COMMANDS if words[: len(each)] == list(each)), key=len)
        assert called[: len(path)] == path
        with command_at(called).make_context(called[-1], words[len(called) :]) as context:
            assert context.params


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_unknown_option(path: tuple[str, ...]) -> None:
    """One line says what is wrong, and where the help is."""
    result = run(*path, "--nonsense")
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert re.match(r"fastact: no such option\W+--nonsense", line)
    assert line.endswith(f"see {' '.join(['fastact', *path])} -h")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lisst"], "fastact: no such command 'lisst'. Did you mean 'list'?; see fastact -h"),
        (["show"], "fastact: missing argument 'NAME'; see fastact show -h"),
        (["bench", "--dtype", "f4"], "fastact: invalid value for '--dtype': 'f4' is not one of"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(option: str) -> None:
    assert run(option).stdout == f"fastact {fastact.__version__}\n"


def test_python_m_fastact() -> None:
    script = "import runpy, sys; sys.argv = ['fastact', '-V']; runpy.run_module('fastact', run_name='__main__')"
    assert run_python(script).stdout == f"fastact {fastact.__version__}\n"


def test_error_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a line as well, behind what has been printed before."""

    def denied(*arguments: object) -> None:
        print("a table")
        raise PermissionError(13, "Permission denied", "/etc/times.json")

    monkeypatch.setattr("fastact.show.facts.as_json", denied)
    result = run("show", "relu", "--json")
    assert result.exit_code == 1
    assert result.stdout == "a table\n"
    assert result.stderr == "fastact: /etc/times.json: Permission denied\n"


def test_nothing_is_listed() -> None:
    result = run("list", "--smooth", "--kind", "loss")
    assert (result.exit_code, result.stderr) == (1, "fastact: there is no such function\n")
    assert json.loads(run("list", "--smooth", "--kind", "loss", "--json").stdout) == []


# JSON ------------------------------------------------------------------------------------------

QUICK = {
    "bench": "bench --activation relu --elements 1000 --samples 1 --implementation numpy",
    "tune": "tune --seconds 0.01 --dry-run",
    "demo": "demo --activation relu --epochs 1 --width 8 --layers 1 --batch-size 500",
    "show": "show relu",
    "doctor": "doctor --quick",
    "verify": "verify relu --points 20",
}


@pytest.mark.parametrize(
    "path",
    [path for path in LEAVES if any("--json" in each.opts for each in command_at(path).params)],
    ids=" ".join,
)
def test_json_of_each_command(
    path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else is on standard output."""
    monkeypatch.setattr(tuning, "tune", lambda seconds, start, advance: [])
    (option,) = (each for each in command_at(path).params if "--json" in each.opts)
    words = shlex.split(QUICK.get(" ".join(path), " ".join(path)))
    words += ["--json"] if option.is_flag else ["--json", "-"]
    if path == ("demo",):
        words += ["--output", str(tmp_path / "picture.png")]
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout, parse_constant=pytest.fail)


def test_json_has_no_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"a": [float("inf"), float("nan"), 1.5], "b": ("x", None)})
    assert json.loads(capsys.readouterr().out) == {"a": [None, None, 1.5], "b": ["x", None]}


@pytest.mark.parametrize("command", ["bench", "tune"])
def test_json_nowhere(command: str) -> None:
    """It is said before the work, not after it."""
    result = run(command, "--json", "nowhere/times.json")
    assert result.exit_code == 2
    assert result.stderr == "fastact: --json: the folder 'nowhere' does not exist\n"


# Interrupts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("finished", [0, 1])
def test_interrupted_bench(finished: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What has been measured is printed and written."""
    times = {"fastact": Times(1e-6, 1e-6, 1e-6), "numpy": Times(3e-6, 3e-6, 3e-6)}

    def measure(settings: report.Settings) -> Iterator[report.Result]:
        for _ in range(finished):
            yield report.Result("relu", "forward", 1000, times, 5e-7)
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "measure", measure)
    file = tmp_path / "times.json"
    options = ["--activation", "relu", "--elements", "1000", "--json", str(file)]
    result = run("bench", *options, "--markdown", str(tmp_path / "page.md"))
    assert result.exit_code == 130
    assert "Traceback" not in result.output
    assert ("Value, 1,000 elements" in result.stdout) == bool(finished)
    assert "Gradient" not in result.stdout  # there is nothing in its table
    assert not (tmp_path / "page.md").exists()  # of all results, or none
    if finished:
        assert len(json.loads(file.read_text())["results"]) == 1
    else:
        assert (result.stdout, file.exists()) == ("", False)


# Packages --------------------------------------------------------------------------------------

#: What each command does at once if its packages are there, and the extra that it names if not.
NEEDS = {
    ("list",): ("list", "cli"),
    ("show",): ("show mse", "cli"),
    ("plot",): ("plot relu", "cli"),
    ("info",): ("info", "cli"),
    ("tune",): ("tune --dry-run", "cli"),
    ("bench",): ("bench --quick", "cli"),
    ("demo",): ("demo", "demo"),
    ("dashboard",): ("dashboard --no-serve", "bench"),
    ("doctor",): ("doctor --quick", None),
    ("verify",): ("verify relu", "cli"),
    ("cache", "warm"): ("cache warm identity", "cli"),
    ("cache", "info"): ("cache info", None),
    ("cache", "clear"): ("cache clear --others", None),
}


def test_without_packages() -> None:
    """Each command says in one line what to install, if it needs any: the smallest extra."""
    assert {*LEAVES} == {*NEEDS}
    calls: dict[str, str | None] = dict(NEEDS.values())
    calls["plot relu -o curves.png"] = "plot"
    script = f"""
        import sys
        for package in ("asv", "matplotlib", "plotext", "pylatexenc", "rich", "sklearn", "threadpoolctl"):
            sys.modules[package] = None
        import json
        from typer.testing import CliRunner
        from fastact.cli import app
        for line in {list(calls)!r}:
            result = CliRunner().invoke(app, line.split())
            print(json.dumps([line, result.exit_code, result.stdout, result.stderr]))
        """
    result = run_python(script)
    assert result.returncode == 0, result.stderr
    for line in map(json.loads, result.stdout.splitlines()):
        call, code, output, errors = line
        if calls[call] is None:
            assert (code, errors) == (0, ""), line
            continue
        assert (code, output) == (1, ""), line
        assert f'pip install "fastact[{calls[call]}]"' in errors, line
        assert errors.count("\n") == 1, line


def test_without_typer() -> None:
    result = run_python("import sys; sys.modules['typer'] = None; import fastact.cli")
    assert result.returncode == 1
    assert result.stderr == (
        'fastact: this needs the package typer, which is not installed: pip install "fastact[cli]"\n'
    )


# Completion ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fastact pl", ["plot"]),
        ("fastact show swi", ["swiglu", "swish"]),
        ("fastact plot relu tanhsh", ["tanhshrink"]),
        ("fastact list --kind l", ["loss"]),
        ("fastact list --library py", ["pytorch"]),
        ("fastact show relu --convention py", ["pytorch"]),
        ("fastact bench --activation lea", ["leaky_relu"]),
        ("fastact bench --operation back", ["backward"]),
        ("fastact bench --implementation nump", ["numpy"]),
        ("fastact cache warm --dtype float3", ["float32"]),
        ("fastact cache w", ["warm"]),
    ],
)
def test_completion(line: str, expected: list[str]) -> None:
    """A shell gets names, at once: Numba is not imported."""
    script = """
        import sys
        from fastact.cli import app
        try:
            app(prog_name="fastact")
        finally:
            assert "numba" not in sys.modules
        """
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    result = run_python(script, _FASTACT_COMPLETE="complete_bash", **words)
    assert result.stderr == ""
    assert result.stdout.split() == expected
