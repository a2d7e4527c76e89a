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
import time
from pathlib import Path

import pytest
from fresh_process import finish, run_python, start_python

import fastact
from fastact.cli._streams import adapt_streams
from fastact.functions.documentation import equations
from fastact.show.facts import facts
from fastact.show.formulas import unicode_equation

pty = pytest.importorskip("pty")

ASCII = {"PYTHONIOENCODING": "ascii"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN = {"PYTHONIOENCODING": "latin-1"}


def command(*arguments: str) -> str:
    """Return a script that runs the command line."""
    return f"from fastact.cli import app; app({list(arguments)!r}, prog_name='fastact')"


def in_terminal(*arguments: str, columns: int = 80, **environment: str) -> str:
    """Run the command line in a terminal of its own, and return all that it writes there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", command(*arguments)],
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


CALLS = [
    ("list",),
    ("list", "--library", "pytorch"),
    ("show", "elu"),
    ("show", "swiglu"),
    ("info",),
    ("-h",),
]


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_narrow_terminal(call: tuple[str, ...]) -> None:
    """40 columns are enough: no line is longer, and no word is lost."""
    wide = without_styles(in_terminal(*call, columns=200))
    narrow = without_styles(in_terminal(*call, columns=40))
    assert max(map(len, narrow.splitlines())) <= 40
    if call[0] != "show":  # its plot depends on the width
        assert sorted(re.findall(r"\w+", wide)) == sorted(re.findall(r"\w+", narrow))


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_no_escape_codes(call: tuple[str, ...], environment: dict[str, str]) -> None:
    """Bold type is an escape code as well."""
    assert "\x1b" not in in_terminal(*call, **environment)


def test_bold_in_a_terminal() -> None:
    """Without these, there are some: the test above can fail."""
    assert "\x1b[1m" in in_terminal("show", "elu")


def test_progress_in_a_terminal(tmp_path: Path) -> None:
    """A bar says which kernel compiles, and is gone in the end; elsewhere there is none."""
    cache = {"FASTACT_CACHE": str(tmp_path / "one")}
    written = in_terminal("cache", "warm", "identity", **cache)
    assert "compiling identity.forward.float32" in written
    assert re.search(r"\d+/\d+", written)
    plain = in_terminal(
        "cache", "warm", "identity", NO_COLOR="1", FASTACT_CACHE=str(tmp_path / "2")
    )
    assert "\x1b" not in plain
    assert "kernels" in plain


def test_compilation_is_told(tmp_path: Path) -> None:
    """Before it begins, by the command that waits for it, on standard error."""
    result = run_python(command("plot", "identity"), FASTACT_CACHE=str(tmp_path))
    assert "fastact: compiling identity.value_and_derivative.float64\n" in result.stderr
    again = run_python(command("plot", "identity"), FASTACT_CACHE=str(tmp_path))
    assert again.stderr == ""
    assert again.stdout == result.stdout


# Encodings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", [ASCII, C_LOCALE, LATIN], ids=str)
@pytest.mark.parametrize("call", [*CALLS, ("plot", "elu", "celu"), ("show", "wörd")], ids=" ".join)
def test_other_encodings(call: tuple[str, ...], environment: dict[str, str]) -> None:
    """What an encoding lacks is spelled: there is no traceback, and no question mark."""
    environment = {**environment, "COLUMNS": "80"}
    result = run_python(command(*call), **environment)
    assert result.returncode == (2 if "wörd" in call else 0), result.stderr
    assert "Traceback" not in result.stderr
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
        spelled = text.encode("ascii", "fastact.ascii").decode()
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


def test_table_in_a_pipe() -> None:
    """A file gets whole tables, however wide."""
    result = run_python(command("list", "--kind", "loss"), COLUMNS="20")
    assert "sigmoid_binary_cross_entropy" in result.stdout


# Interrupts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call", [("cache", "warm"), ("tune", "--dry-run", "--seconds", "600")], ids=" ".join
)
def test_ctrl_c(call: tuple[str, ...], tmp_path: Path) -> None:
    """It ends the command, with the exit code that a shell expects, and nothing else is said."""
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
    assert all(line.startswith("fastact: compiling") for line in result.stderr.splitlines())
