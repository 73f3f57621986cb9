"""Formulas between `\\(` and `\\)`, or `\\[` and `\\]`: many models write them so."""

import re

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline

from mongars.bouche.formula import LONGEST

CLOSING = {"(": "\\)", "[": "\\]"}
_LIKE_A_FORMULA = re.compile(r"[\\^_=+<>{}/*]|\d")
"""In markdown `\\[` is also a plain bracket: `\\[sic\\]` is no formula."""


def plugin(dialect: MarkdownIt) -> None:
    """Read them before markdown takes the backslash for its own."""
    dialect.inline.ruler.before("escape", "math_brackets", _formula)


def _formula(state: StateInline, silent: bool) -> bool:
    start = state.pos + 2
    opening = state.src[state.pos : start]
    if len(opening) < 2 or opening[0] != "\\" or opening[1] not in CLOSING:
        return False
    end = state.src.find(CLOSING[opening[1]], start, min(state.posMax, start + LONGEST))
    source = state.src[start:end].strip() if end > start else ""
    if not source or (opening[1] == "[" and not _LIKE_A_FORMULA.search(source)):
        return False
    if not silent:
        kind = "math_inline" if opening[1] == "(" else "math_inline_double"
        token = state.push(kind, "math", 0)
        token.content = source
        token.markup = opening
    state.pos = end + 2
    return True
