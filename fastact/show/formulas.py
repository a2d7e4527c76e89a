"""TeX formulas as Unicode text, for the terminal.

pylatexenc supplies the symbols. Fractions and roots are written on one line, as in ``(x + 1)/2``
and ``√(x² + b)``; only a case distinction takes several lines.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from pylatexenc.latex2text import (
    EnvironmentTextSpec,
    LatexNodes2Text,
    MacroTextSpec,
    SpecialsTextSpec,
    get_default_latex_context_db,
)

_FIXED_SPACE = "\N{NO-BREAK SPACE}"  # for alignment: ordinary spaces are collapsed
_SCRIPTS = {
    "^": str.maketrans("0123456789+-=()xyznk", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ˣʸᶻⁿᵏ"),
    "_": str.maketrans("0123456789+-=()xjkn", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₓⱼₖₙ"),
}

# A group, as superscript, subscript or neither; or a single superscript or subscript character,
# unless the underscore belongs to a name such as min_val.
_GROUP = re.compile(
    r"(?P<script>[\^_]?)\{(?P<content>[^{}]*)\}"
    r"|(?P<short_script>\^|(?<![A-Za-z]{2})_)(?P<character>[^\s{}(])"
)


def unicode_equation(left: str, right: str) -> str:
    r"""Return an equation as text, on several lines if it distinguishes cases.

    Parameters
    ----------
    left : str
        The left-hand side, as plain text.
    right : str
        The right-hand side, in TeX.

    Examples
    --------
    >>> print(unicode_equation("f(x)", r"\begin{cases} x^2 & x > 0 \\ 0 & x \le 0 \end{cases}"))
    f(x) = ⎧ x²  if x > 0
           ⎩ 0   if x ≤ 0
    """
    right = re.sub(r"\\lvert\s*(.*?)\s*\\rvert", r"|\1|", right)
    right = re.sub(r",\s*\\quad", r"\\quad", right)
    # pylatexenc drops spaces between commands unless they are commands ("\ ") themselves.
    right = re.sub(r"(?<!\\sqrt)(?<!\\frac) +(?=\\[a-z])", r"\\ ", right)
    text = _converter().latex_to_text(right)
    first, *others = f"{left} = {_resolve_braces(text)}".splitlines()
    margin = " " * max(first.find("⎧"), len(left) + len(" = "))
    lines = [first, *(margin + line.strip() for line in others)]
    return "\n".join(lines).replace(_FIXED_SPACE, " ")


@cache
def _converter() -> LatexNodes2Text:
    """Return a converter with our fractions, roots and cases; it leaves braces in place."""
    symbols = get_default_latex_context_db()
    symbols.add_context_category(
        "fastact",
        prepend=True,
        macros=[
            MacroTextSpec("frac", simplify_repl="{%(1)s}/{%(2)s} "),
            MacroTextSpec("sqrt", simplify_repl="√{%(2)s} "),
            MacroTextSpec("quad", simplify_repl="\n"),
        ],
        environments=[EnvironmentTextSpec("cases", simplify_repl=_cases)],
        specials=[SpecialsTextSpec("&", simplify_repl="\t")],
    )
    return LatexNodes2Text(
        latex_context=symbols,
        math_mode="text",
        strict_latex_spaces="based-on-source",
        keep_braced_groups=True,
        keep_braced_groups_minlen=1,
    )


def _cases(node: Any, l2tobj: LatexNodes2Text) -> str:
    """Return one line for each case, aligned behind a tall brace."""
    body = _resolve_braces(l2tobj.nodelist_to_text(node.nodelist))
    rows = [[cell.strip() for cell in line.split("\t")] for line in body.splitlines()]
    width = max(len(value) for value, _ in rows)
    braces = "⎧" + "⎨" * (len(rows) - 2) + "⎩"
    return "\n".join(
        f"{brace} {value:{_FIXED_SPACE}<{width}}{_FIXED_SPACE * 2}{condition if condition == 'else' else f'if {condition}'}"
        for brace, (value, condition) in zip(braces, rows, strict=True)
    )


def _resolve_braces(text: str) -> str:
    """Turn TeX groups into superscripts, subscripts or parentheses, innermost first."""
    text = re.sub(r" *([≤≥·]) *", r" \1 ", text)
    text = re.sub(r" +(?=[ ,)^}\t\n]|$)|(?<=\() +", "", text)
    while (resolved := _GROUP.sub(_write_group, text)) != text:
        text = resolved
    return text


def _write_group(match: re.Match[str]) -> str:
    content = match["content"] or match["character"] or ""
    if script := match["script"] or match["short_script"]:
        content = content.replace(" ", "")
        if all(ord(character) in _SCRIPTS[script] for character in content):
            return content.translate(_SCRIPTS[script])
        return f"{script}({content})" if len(content) > 1 else script + content
    unparenthesized = content
    while (rest := re.sub(r"\([^()]*\)", "", unparenthesized)) != unparenthesized:
        unparenthesized = rest
    return f"({content})" if re.search(r"[ /]", unparenthesized) else content
