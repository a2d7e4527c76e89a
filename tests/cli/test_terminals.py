"""The command line in terminals and pipes of all kinds, and when it is interrupted."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import pytest
from fresh_process import finish, run_python, start_python

import fastact
from fastact.bench import report
from fastact.cli._output import print_rich, tell_compilation
from fastact.cli._streams import adapt_streams
from fastact.functions.documentation import equations
from fastact.runtime import loading
from fastact.show.facts import facts
from fastact.show.formulas import unicode_equation
from fastact.system import hooks

pty = pytest.importorskip("pty")

ASCII = {"PYTHONIOENCODING": "ascii"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def command(*arguments: str) -> str:
    """Return a script that runs the command line."""
    return commands(arguments)


def commands(*calls: tuple[str, ...]) -> str:
    """Return a script that runs the command line several times, each behind a form feed; the last exit code counts."""
    return f"""
from fastact.cli import app
for call in {calls!a}:
    print(end="\\f" if {len(calls)} > 1 else "")
    try:
        app(call, prog_name="fastact")
    except SystemExit as end:
        code = end.code
raise SystemExit(code)
"""


def in_terminal(script: str, columns: int = 80, **environment: str) -> str:
    """Run a script in a terminal of its own, and return all that it writes there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=kept | {"TERM": "xterm-256color"} | environment,
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            some = os.read(ours, 65536)
        except OSError:  # Linux's end of file
            break
        if not some:
            break
        written += some
    os.close(ours)
    assert process.wait(timeout=60) == 0, written
    return written.decode().replace("\r\n", "\n")


def without_styles(text: str) -> str:
    """Return text without colors and bold type."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


CALLS = (
    ("list",),
    ("list", "--library", "pytorch"),
    ("show", "elu"),
    ("show", "swiglu"),
    ("info",),
    ("-h",),
)


def test_narrow_terminal() -> None:
    """40 columns are enough: no line is longer, and no word is lost."""
    wide, narrow = (
        without_styles(in_terminal(commands(*CALLS), columns)).split("\f")[1:]
        for columns in (200, 40)
    )
    headings = {"what", "it", "is"}  # which only tables have
    for call, one, other in zip(CALLS, wide, narrow, strict=True):
        assert max(map(len, other.splitlines())) <= 40, call
        if call[0] != "show":  # its plot depends on the width
            assert {*re.findall(r"\w+", one)} - headings <= {*re.findall(r"\w+", other)}, call


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_no_escape_codes(environment: dict[str, str]) -> None:
    """Bold type is an escape code as well."""
    assert "\x1b" not in in_terminal(commands(*CALLS), **environment)


def test_bold_in_a_terminal() -> None:
    """Without these, there are some: the test above can fail."""
    assert "\x1b[1m" in in_terminal(command("show", "elu"))


STEPS = """
    from fastact.cli._output import Progress, progress, tell_compilation
    Progress.FIRST = Progress.NEXT = 0
    with progress("working", 2) as shown:
        shown.advance()
        tell_compilation("a_kernel")
    """


def test_progress_in_a_terminal() -> None:
    """A bar says what is done; in the end nothing is left of it."""
    written = in_terminal(STEPS)
    assert re.search("working.*1/2", written)
    assert re.search("compiling a_kernel.*1/2", written)
    assert written.endswith("\x1b[2K")  # the line is erased


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_progress_in_lines(environment: dict[str, str]) -> None:
    """Where there can be no bar, lines say the same."""
    lines = [
        "fastact: working, 0 of 2 done",
        "fastact: working, 1 of 2 done",
        "fastact: compiling a_kernel, 1 of 2 done",
    ]
    assert in_terminal(STEPS, **environment).splitlines() == lines
    in_a_pipe = run_python(STEPS)
    assert (in_a_pipe.stdout, in_a_pipe.stderr.splitlines()) == ("", lines)


def test_compilation_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before it begins, on standard error."""

    def build() -> tuple[str, str]:
        assert capsys.readouterr() == ("", "fastact: compiling a kernel\n")
        return "f", "define i64 @f() { ret i64 1 }"

    monkeypatch.setattr(hooks, "compiling", tell_compilation)
    assert loading.load_ir(None, build)


# Encodings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", [ASCII, C_LOCALE], ids=str)
def test_other_encodings(environment: dict[str, str]) -> None:
    """What an encoding lacks is spelled: there is no traceback, and no question mark."""
    calls = commands(
        *CALLS, ("plot", "elu", "celu"), ("show", "w\N{LATIN SMALL LETTER O WITH DIAERESIS}rd")
    )
    result = run_python(calls, **environment)
    assert result.returncode == 2
    assert "fastact: there is no function 'word'." in result.stderr
    assert "?" not in result.stdout


def test_spelling() -> None:
    result = run_python(command("show", "elu"), **ASCII)
    assert "f(x) = + x           if x > 0\n" in result.stdout
    assert "+ alpha (e^x - 1)  if x <= 0\n" in result.stdout
    assert "value ***   derivative ..." in result.stdout


@pytest.mark.parametrize("name", fastact.names())
def test_everything_can_be_spelled(name: str) -> None:
    adapt_streams()  # which registers the error handler
    definition = fastact.get(name)._definition
    texts = [unicode_equation(*each) for each in equations(definition).items()]
    texts += [part for fact in facts(definition) for part in fact]
    for text in (*texts, definition.summary):
        for encoding in ("ascii", "latin-1", "cp437"):
            spelled = text.encode(encoding, "fastact.ascii").decode(encoding)
            assert spelled.count("?") == text.count("?"), text


# Pipes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call", [("list",), ("list", "--names"), ("-h",), ("info", "--json")], ids=" ".join
)
def test_closed_pipe(call: tuple[str, ...]) -> None:
    """Who reads no further, as head does, sees no complaint."""
    with start_python("input()\n" + command(*call)) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        result = finish(process, "\n")
    assert result.stderr == ""
    assert result.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk() -> None:
    """An error in writing is no traceback either."""
    script = "import sys; sys.stdout = open('/dev/full', 'w')\n" + command("list")
    result = run_python(script)
    assert result.returncode == 1
    assert result.stderr == "fastact: [Errno 28] No space left on device\n"


def test_wide_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A table of numbers is printed whole, whatever the width; in a terminal it is divided before."""
    monkeypatch.setenv("COLUMNS", "40")
    cells = [["function", *(f"contender {i}" for i in range(9))], ["relu"] + ["1234567.8"] * 9]
    print_rich(report.rich_table(cells))
    heading, _, row = capsys.readouterr().out.splitlines()
    assert re.split(" {2,}", heading) == cells[0]
    assert row.split() == cells[1]
    parts = list(report.columns_that_fit(cells, 40))
    assert [column for part in parts for column in part[0][1:]] == cells[0][1:]
    for part in parts:
        assert part[1][0] == "relu"
        print_rich(report.rich_table(part))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40


# Interrupts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call", [("cache", "warm"), ("tune", "--dry-run", "--seconds", "600")], ids=" ".join
)
def test_ctrl_c(call: tuple[str, ...], tmp_path: Path) -> None:
    """It ends the command, with the exit code that a shell expects, and nothing is said but how far it came."""
    script = (
        f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{command(*call)}"
    )
    with start_python(script, FASTACT_CACHE=str(tmp_path)) as process:
        time.sleep(5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        result = finish(process)
    assert result.returncode == 130
    assert "Traceback" not in result.stderr
    assert all(line.startswith("fastact: ") for line in result.stderr.splitlines())
