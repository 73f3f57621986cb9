"""One turn while this process performs it: what has happened, and what is not on disk yet."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mongars.cortex.events import Delta, Happening, Reset, Thought, clean, encode
from mongars.cortex.turn import Options, Turn
from mongars.hippocampus import Conversation, Message, MessageState


@dataclass(frozen=True)
class Group:
    """Encoded events that go to disk together."""

    first_seq: int
    last_seq: int
    lines: tuple[bytes, ...]


@dataclass(frozen=True)
class Ending:
    """How a turn ends: its last event, and what is written of turn and message with it."""

    last: Happening
    turn_state: str
    message_state: MessageState
    error: Mapping[str, Any] | None
    message_details: Mapping[str, Any]
    turn_details: Mapping[str, Any]
    name_conversation: bool = False


@dataclass(eq=False, repr=False)
class Run:
    """A turn in this process's hands."""

    turn: Turn
    options: Options
    seq: int = 0
    """The last seq that was given out."""
    base: str = ""
    """What the answer begins with before this turn adds to it."""
    conversation: Conversation | None = None
    history: list[Message] | None = None
    """The branch up to the message that is answered, where it is known already."""
    text: list[str] = field(default_factory=list)
    """The answer so far, in pieces; what is told to nobody yet is among them."""
    thinking: list[str] = field(default_factory=list)
    model: str | None = None
    began: float = field(default_factory=time.perf_counter)
    first_token_s: float | None = None
    started: bool = False
    started_kept: bool = False
    stop_asked: bool = False
    handing_over: bool = False
    lost: bool = False
    """Another process holds it: nothing of ours may be written any more."""
    ending: Ending | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once nothing more will be written by this process."""
    task: asyncio.Task[None] | None = None
    waiting: list[Happening] = field(default_factory=list)
    told: list[bytes] = field(default_factory=list)
    """The groups that are on disk, for those who begin to listen."""
    unsaved: Group | None = None
    """A group that could not be written yet; it goes first."""

    def happen(self, happening: Happening) -> None:
        """Take in what happened. Pieces of text that go to disk together become one event."""
        if isinstance(happening, Delta):
            self.text.append(happening.text)
        elif isinstance(happening, Reset):
            self.text = [happening.text]
        self.waiting.append(happening)

    def take(self) -> Group | None:
        """What has happened since the last group, encoded; each event has its seq from now on."""
        lines = list(self.unsaved.lines) if self.unsaved else []
        first = self.unsaved.first_seq if self.unsaved else self.seq + 1
        for happening in _merged(self.waiting):
            self.seq += 1
            lines.append(encode(self.turn.id, self.seq, happening))
        self.waiting = []
        self.unsaved = None
        return Group(first, self.seq, tuple(lines)) if lines else None

    def whole_text(self) -> str:
        """The answer so far."""
        return "".join(self.text)


def _merged(happenings: list[Happening]) -> list[Happening]:
    merged: list[Happening] = []
    pieces: list[str] = []
    kind: type[Delta] | type[Thought] | None = None

    def close() -> None:
        if kind is not None and pieces:
            merged.append(kind("".join(pieces)))
            pieces.clear()

    for one in happenings:
        if isinstance(one, Delta | Thought):
            if type(one) is not kind:
                close()
                kind = type(one)
            pieces.append(one.text)
        else:
            close()
            kind = None
            merged.append(one)
    close()
    return merged


def piece(text: str) -> Delta:
    """A model's piece of text as an event."""
    return Delta(clean(text))
