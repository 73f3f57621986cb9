"""What happens in a turn, and how it is told: each event is serialised once, for everybody.

On disk and on the bus a group of events is a JSON array with one event a line; a line feed never
stands inside a JSON text otherwise, so a group is taken apart without being parsed.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import orjson

FinishReason = Literal["stop", "length", "stopped"]

LAST: frozenset[str] = frozenset({"done", "failed"})
"""The types of event that end a turn."""


@dataclass(frozen=True, slots=True)
class Queued:
    """The words are kept and the turn waits; `position` others are before it."""

    type: ClassVar = "queued"
    position: int


@dataclass(frozen=True, slots=True)
class Started:
    """A model took it."""

    type: ClassVar = "started"
    conversation_id: str
    message_id: str
    model: str
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase before the answer is, as in reading the prompt (in tokens)."""

    type: ClassVar = "progress"
    phase: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Recalled:
    """What was found in memory for this answer."""

    type: ClassVar = "recalled"
    memories: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Searching:
    """Something is being looked up."""

    type: ClassVar = "searching"
    query: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool is used."""

    type: ClassVar = "tool"
    name: str
    input: Mapping[str, Any]
    state: str


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of the model's reasoning; not part of the message's text."""

    type: ClassVar = "thinking"
    text: str


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer."""

    type: ClassVar = "delta"
    text: str


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something the person should know about how the answer is made."""

    type: ClassVar = "notice"
    text: str


@dataclass(frozen=True, slots=True)
class Reset:
    """Replaces all text so far."""

    type: ClassVar = "reset"
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is there, whole or stopped."""

    type: ClassVar = "done"
    message: Mapping[str, Any]
    finish_reason: FinishReason
    usage: Mapping[str, Any]
    timing: Mapping[str, Any]
    memories: Sequence[Mapping[str, Any]] = ()
    sources: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """No whole answer came; `message` is the part that did, if any."""

    type: ClassVar = "failed"
    problem: Mapping[str, Any]
    message: Mapping[str, Any] | None


Happening = (
    Queued
    | Started
    | Progress
    | Recalled
    | Searching
    | Tool
    | Thought
    | Delta
    | Noticed
    | Reset
    | Done
    | Failed
)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a turn as it is told: `json` holds type, turn and seq too."""

    seq: int
    type: str
    json: bytes = field(repr=False)

    @property
    def ends(self) -> bool:
        """Whether nothing comes after it."""
        return self.type in LAST

    def facts(self) -> dict[str, Any]:
        """The event, parsed."""
        facts: dict[str, Any] = orjson.loads(self.json)
        return facts


def encode(turn_id: str, seq: int, happening: Happening) -> bytes:
    """An event as JSON; type, turn and seq come first."""
    facts = orjson.dumps(happening)
    if facts.endswith(b',"client_id":null}'):
        facts = facts[: -len(b',"client_id":null}')] + b"}"
    head = f'{{"type":"{happening.type}","turn_id":"{turn_id}","seq":{seq},'
    return head.encode() + facts[1:]


def join(lines: Iterable[bytes]) -> bytes:
    """A group of events, as it is stored and published."""
    return b"[" + b",\n".join(lines) + b"]"


_HEAD = re.compile(rb'\{"type":"([a-z]+)","turn_id":"[^"]*","seq":(\d+),')


def split(group: bytes) -> Iterator[Event]:
    """The events of a group."""
    for line in group[1:-1].split(b",\n"):
        head = _HEAD.match(line)
        assert head is not None, "a group holds encoded events"
        yield Event(int(head[2]), head[1].decode(), line)


def clean(text: str) -> str:
    """A model's text as it can be kept: half surrogates and NUL become U+FFFD."""
    if text.isascii() and "\x00" not in text:
        return text
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\x00", "\ufffd")
