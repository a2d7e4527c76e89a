"""Standard streams whose encoding lacks characters that we print: what is missing is spelled in ASCII."""

from __future__ import annotations

import codecs
import os
import sys
import unicodedata
from itertools import groupby

_HANDLER = "fastact.ascii"
_SCRIPTS = {"<super>": "^", "<sub>": "_"}
_SPELLED = str.maketrans(
    {
        **dict.fromkeys("─━═", "-"),
        **dict.fromkeys("│┃║", "|"),
        **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯⎧⎨⎩", "+"),
        **{"≤": "<=", "≥": ">=", "≠": "!=", "∞": "inf", "√": "sqrt", "∑": "sum", "∏": "prod"},
        **{"·": ".", "±": "+-", "\N{MULTIPLICATION SIGN}": "*", "\N{MINUS SIGN}": "-"},
        **{"∈": "in", "→": "->", "✓": "+", "✗": "x"},
    }
)


def adapt_streams() -> None:
    """Let standard output and error spell what they cannot encode, rather than fail."""
    codecs.register_error(_HANDLER, _spell)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_HANDLER)


def flush_output() -> None:
    """Write what is still buffered."""
    if sys.stdout:  # it is None if it was closed from the start
        sys.stdout.flush()


def discard_output() -> None:
    """Let what cannot be written go nowhere, so that Python does not try again, and complain, when it ends."""
    try:
        flush_output()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    runs = groupby(error.object[error.start : error.end], _script)
    return "".join(_written(script, "".join(run)) for script, run in runs), error.end


def _script(character: str) -> str:
    """Return ^ for a superscript and _ for a subscript."""
    return _SCRIPTS.get(unicodedata.decomposition(character).partition(" ")[0], "")


def _written(script: str, text: str) -> str:
    """Return a run of characters in ASCII, behind the sign of its script."""
    plain = "".join(map(_in_ascii, text))
    return f"{script}({plain})" if script and len(text) > 1 else script + plain


def _in_ascii(character: str) -> str:
    spelled = unicodedata.normalize("NFKD", character).translate(_SPELLED)
    if spelled.isascii():
        return spelled
    name = unicodedata.name(character, "")
    if name.startswith("BRAILLE PATTERN"):  # of a plot
        return " " if name.endswith("BLANK") else "*"
    if unicodedata.category(character) == "Pd":
        return "-"
    if name.startswith("GREEK"):  # GREEK SMALL LETTER ALPHA
        _, case, _, letter, *_ = name.split()
        return letter.capitalize() if case == "CAPITAL" else letter.lower()
    return spelled.encode("ascii", "ignore").decode() or "?"
