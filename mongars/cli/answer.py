"""Showing an answer while it is made: rich on a terminal, plain text in a pipe, JSON for programs."""

import json
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol, TextIO

from mongars.cli.client import Event, fault_in

if TYPE_CHECKING:
    from rich.text import Text


class Shown(Protocol):
    """What the events of one turn are given to."""

    def event(self, event: Event) -> None:
        """Show it."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def shown_on(out: TextIO, *, as_json: bool) -> Shown:
    """The form that suits where the answer goes."""
    if as_json:
        return Lines(out)
    return Rich() if out.isatty() else Plain(out)


def follow(events: Iterable[Event], shown: Shown) -> Event:
    """Show all of a turn; returns its last event. Raises the fault that a failed turn names."""
    last: Event | None = None
    for event in events:
        shown.event(event)
        last = event
    assert last is not None, "a turn has at least one event"
    if last.name == "failed":
        raise fault_in(last.data.get("problem") or {})
    return last


class Lines:
    """One JSON object a line, as over the socket: the event's name is `type`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def event(self, event: Event) -> None:
        """Print it at once."""
        line = {"type": event.name, **event.data}
        print(json.dumps(line, ensure_ascii=False), file=self._out, flush=True)

    def close(self) -> None:
        """Nothing was changed."""


class Plain:
    """The text as it comes and nothing else; what is beside it goes to stderr."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._text = ""

    def event(self, event: Event) -> None:
        """Print what it adds."""
        if event.name == "delta":
            self._add(event.data["text"])
        elif event.name == "reset" and event.data["text"] != self._text:
            text = event.data["text"]
            if text.startswith(self._text):
                self._add(text[len(self._text) :])
            else:
                print("mongars: the answer had to start over", file=sys.stderr)
                self._add("\n" if self._text else "")
                self._text = ""
                self._add(text)
        elif event.name == "notice":
            print(f"mongars: {event.data['text']}", file=sys.stderr)
        elif event.name == "done" and not self._text.endswith("\n"):
            self._add("\n")

    def close(self) -> None:
        """Nothing was changed."""

    def _add(self, text: str) -> None:
        self._text += text
        print(text, end="", file=self._out, flush=True)


class Rich:
    """Markdown on a terminal: finished blocks are printed once, only the open one is redrawn."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._stack = ExitStack()
        self._live = self._stack.enter_context(
            Live(console=self._console, refresh_per_second=12, transient=True)
        )
        self._printed = ""
        self._open = ""

    def event(self, event: Event) -> None:
        """Show what it changes."""
        data = event.data
        if event.name == "delta":
            self._text(self._open + data["text"])
        elif event.name == "reset":
            self._reset(data["text"])
        elif event.name == "notice":
            self._console.print(data["text"], style="dim italic", markup=False)
        elif event.ends:
            self._finish(self._open)
            self._open = ""
            self._live.update("")
        elif waiting := status_of(event):
            self._live.update(_dim(waiting))

    def close(self) -> None:
        """Give the terminal back."""
        self._stack.close()

    def _text(self, text: str) -> None:
        from rich.markdown import Markdown

        finished, self._open = split_finished(text)
        self._finish(finished)
        self._live.update(Markdown(self._open))

    def _reset(self, text: str) -> None:
        if text.startswith(self._printed):
            self._text(text[len(self._printed) :])
            return
        self._console.print("(the answer had to start over)", style="dim italic")
        self._printed = ""
        self._text(text)

    def _finish(self, text: str) -> None:
        from rich.markdown import Markdown

        self._printed += text
        if text.strip():
            self._console.print(Markdown(text))


def status_of(event: Event) -> str | None:
    """What to say while no words have come."""
    data = event.data
    if event.name == "queued":
        ahead = int(data.get("position") or 0)
        return f"waiting: {ahead} before you" if ahead else "waiting for the model"
    if event.name == "progress":
        done, total = data.get("done") or 0, data.get("total")
        share = f" {100 * done // total} %" if total else ""
        return f"{data.get('phase', 'working')}{share}"
    if event.name == "searching":
        return f"looking up {data.get('query', '')}"
    return {"started": "reading", "thinking": "thinking"}.get(event.name)


def _dim(text: str) -> "Text":
    from rich.text import Text

    return Text(f"{text} …", style="dim")


def split_finished(text: str) -> tuple[str, str]:
    """The blocks that no further word can change, and the open rest.

    A blank line ends a block, except inside a fence and inside a list or a quotation, which a later
    line may go on with.
    """
    fence: str | None = None
    end = start = 0
    block_goes_on = False
    for line in text.splitlines(keepends=True):
        stripped = line.strip()
        start += len(line)
        if fence is not None:
            if stripped.startswith(fence) and not stripped.strip(fence[0]):
                fence = None
        elif stripped.startswith(("```", "~~~")):
            fence = stripped[:3]
        elif not stripped:
            if not block_goes_on and line.endswith("\n"):
                end = start
        else:
            block_goes_on = stripped[:1] in "-*+>|" or stripped[:1].isdigit() or line[:1] in " \t"
    return text[:end], text[end:]
