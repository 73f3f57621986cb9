"""An answer as HTML while it is still growing: each finished top-level block once.

A block of markdown, once closed, is never changed by what follows (CommonMark, appendix A; link
definitions apart). So only the open tail has to be looked at again, and only where a cheap look at
its lines says that a block may have ended. How often is bounded by a budget that every character
fed adds to: the work for a whole answer is proportional to its length, whatever is in it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mongars.bouche.allowed import BIDI, Env
from mongars.bouche.markdown import parser, render

if TYPE_CHECKING:
    from markdown_it.token import Token

BUDGET_START = 4_000
BUDGET_PER_CHARACTER = 8
"""Characters that may be parsed for each one fed."""
HEAD = 200
"""Characters of a line that say what kind of line it is."""

_FENCE = re.compile(r"^ {0,3}(`{3,}(?=[^`]*$)|~{3,})")
_CLOSING = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*$")
_MAY_CONTINUE = re.compile(r"^(?:$|\s|[-+*](?:\s|$)|\d{1,9}(?:$|[.)](?:\s|$)))")
"""A line that may belong to a list or to indented code before it, or is not long enough to tell."""
_LINE_END = re.compile(r"\r\n|\n|\r")

ENDED_BY_BLANK_LINE = frozenset(
    {"paragraph_open", "heading_open", "table_open", "blockquote_open", "hr", "math_block"}
)

Kind = Literal["unknown", "list", "fence"]


@dataclass(frozen=True)
class Block:
    """A finished part of an answer: its number from 0, its HTML, and how many characters of the
    whole text are covered by it and those before it."""

    index: int
    html: str
    upto: int


@dataclass
class _Line:
    """The beginning of the line that is being written, and whether the one before it was blank."""

    head: str = ""
    after_blank: bool = False
    judged: bool = False


class BlockRenderer:
    """Fed with an answer piece by piece, gives each finished block once, in order."""

    def __init__(self) -> None:
        self._pieces: list[str] = []  # the open tail
        self._length = 0  # of the tail
        self._upto = 0  # what is covered by blocks
        self._index = 0
        self._budget = BUDGET_START
        self._line = _Line()
        self._line_start = 0  # in the tail
        self._kind: Kind = "unknown"  # of the open block, as the parser last saw it
        self._fence = ""  # the marks that opened it
        self._candidate: tuple[int, bool] | None = None  # where a block may have ended; surely
        self._env: Env = {}

    def feed(self, text: str) -> list[Block]:
        """The blocks that this next piece of the answer finished."""
        self._budget += BUDGET_PER_CHARACTER * len(text)
        self._pieces.append(text)
        start = 0
        while (end := text.find("\n", start)) >= 0:
            self._extend(text[start:end])
            self._length += end + 1 - start
            self._end_line()
            start = end + 1
        self._extend(text[start:])
        self._length += len(text) - start
        if self._candidate is None or self._budget < self._candidate[0]:
            return []
        at, surely = self._candidate
        self._candidate = None
        return self._cut(at, surely=surely)

    def finish(self) -> list[Block]:
        """The rest, as blocks: nothing more will come."""
        return self._cut(self._length, surely=True, ended=True)

    def _extend(self, text: str) -> None:
        """Look at what was added to the current line, until its kind is clear."""
        line = self._line
        if len(line.head) < HEAD:
            line.head += text[: HEAD - len(line.head)]
        if line.after_blank and not line.judged and not _MAY_CONTINUE.match(line.head):
            line.judged = True
            if self._kind != "fence":
                self._candidate = (self._line_start, True)

    def _end_line(self) -> None:
        head = self._line.head.rstrip("\r")
        blank = not head.strip(" \t") and len(head) < HEAD
        self._line_start = self._length
        self._line = _Line(after_blank=blank)
        if self._kind == "fence":
            closing = _CLOSING.match(head)
            if closing and closing[1].startswith(self._fence):
                self._candidate = (self._length, False)
        elif self._kind == "list":
            if _FENCE.match(head) and head[0] in "`~":
                self._candidate = (self._length, False)
        elif blank or _FENCE.match(head):
            self._candidate = (self._length, False)

    def _cut(self, at: int, *, surely: bool, ended: bool = False) -> list[Block]:
        """Parse the tail up to `at` and give out its finished blocks.

        `surely`: what stands before `at` cannot go on after it, but for an open fence.
        """
        self._budget -= at
        tail = "".join(self._pieces)
        starts = _line_starts(tail, at)
        tops, text = _top_level(tail[:at])
        begins = [starts[_lines(token)[0]] for token in tops]
        self._kind, self._fence = "unknown", ""
        finished = len(tops)
        if tops and not ended:
            kind = _open_kind(tops[-1], text, surely=surely)
            if kind is not None:
                finished -= 1
                self._kind, self._fence = kind, tops[-1].markup
        edges = [0, *begins[1:], at]
        blocks = [self._block(tail[edges[i] : edges[i + 1]]) for i in range(finished)]
        self._keep(tail, edges[finished] if tops else 0)
        return blocks

    def _block(self, source: str) -> Block:
        self._upto += len(source)
        block = Block(self._index, render(source, self._env), self._upto)
        self._index += 1
        return block

    def _keep(self, tail: str, start: int) -> None:
        self._pieces = [tail[start:]]
        self._length -= start
        self._line_start -= start


def _top_level(source: str) -> tuple[list["Token"], list[str]]:
    """The opening tokens of the top-level blocks, and the lines they count by."""
    tokens: list[Token] = []
    normal = _LINE_END.sub("\n", source).translate({0: "\ufffd", **BIDI})
    parser().block.parse(normal, parser(), {}, tokens)
    tops = [token for token in tokens if token.level == 0 and token.nesting >= 0]
    return tops, normal.split("\n")


def _lines(token: "Token") -> list[int]:
    assert token.map is not None
    return token.map


def _line_starts(text: str, upto: int) -> list[int]:
    return [0, *(found.end() for found in _LINE_END.finditer(text, 0, upto))]


def _open_kind(last: "Token", lines: Sequence[str], *, surely: bool) -> Kind | None:
    """The kind of the last block if it may go on; None if it has ended."""
    if last.type == "fence":
        first, end = _lines(last)
        closing = _CLOSING.match(lines[end - 1]) if end - 1 > first else None
        return None if closing and closing[1].startswith(last.markup) else "fence"
    if surely or last.type in ENDED_BY_BLANK_LINE:
        return None
    return "list"
