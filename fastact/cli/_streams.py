"""Standard streams whose encoding lacks characters that we print: what is missing is spelled in ASCII."""

from __future__ import annotations

import codecs
import os
import sys
import unicodedata

_HANDLER = "fastact.ascii"
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


def discard_output() -> None:
    """Let what is still buffered go nowhere: the reader of standard output has left."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(map(_in_ascii, text)), error.end


def _in_ascii(character: str) -> str:
    spelled = character.translate(_SPELLED)
    if spelled.isascii():
        return spelled
    name = unicodedata.name(character, "")
    if name.startswith("BRAILLE PATTERN"):  # of a plot
        return " " if name.endswith("BLANK") else "*"
    if unicodedata.category(character) == "Pd":
        return "-"
    if name.startswith("GREEK SMALL LETTER"):
        return name.split()[3].lower()
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    script = {"<super>": "^", "<sub>": "_"}.get(unicodedata.decomposition(character).split(" ")[0])
    return f"{script or ''}{plain}" if plain else "?"
