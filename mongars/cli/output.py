"""Printing what a command found: a table for people, JSON for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from mongars.errors import Invalid

if TYPE_CHECKING:
    from rich.console import Console


def as_json(value: Any) -> None:
    """One JSON document on stdout; times and ids as their texts."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def console(*, stderr: bool = False) -> "Console":
    """The terminal; wide where there is none, so that a pipe gets one line for each row."""
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=None if terminal else 200)


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """A table of these rows; `columns` names each key's heading."""
    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in columns.values():
        shown.add_column(heading, overflow="fold")
    for row in rows:
        shown.add_row(*(_cell(row.get(key)) for key in columns))
    console().print(shown)


def _cell(value: Any) -> str:
    from rich.markup import escape

    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, datetime):
        return f"{value.astimezone():%Y-%m-%d %H:%M}"
    return "" if value is None else escape(str(value))


def sure(question: str, *, yes: bool) -> None:
    """Go on only after a clear yes: by `--yes`, or typed. Raises `Invalid` when nobody can answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Invalid(f"{question} Add --yes to say so.")
    if not typer.confirm(question):
        raise typer.Exit(1)


def password(prompt: str, *, from_stdin: bool) -> str:
    """A new password: the first line of stdin, or typed twice and not shown."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise Invalid("Nobody can type a password here; add --password-stdin and pipe it in.")
    typed: str = typer.prompt(prompt, hide_input=True, confirmation_prompt=True)
    return typed
