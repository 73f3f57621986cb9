"""A turn as everybody sees it, and what was asked for it."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from mongars.llm import Image

TurnKind = Literal["say", "regenerate", "continue", "edit"]
TurnState = Literal["queued", "running", "done", "stopped", "failed"]

ACTIVE_STATES: frozenset[str] = frozenset({"queued", "running"})


@dataclass(frozen=True)
class Options:
    """What is wanted of this one answer; `None`: as the conversation says."""

    model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None

    def facts(self) -> dict[str, Any]:
        """Only what is wanted, for the database."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Turn:
    """One answer in the making, or made. `message_id` is what it answers, `answer_id` the answer."""

    id: str
    owner_id: str
    conversation_id: str
    message_id: str
    answer_id: str
    kind: TurnKind
    state: TurnState
    options: Mapping[str, Any]
    client_id: str | None
    error: Mapping[str, Any] | None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    model: str | None = None
    attempts: int = 1
    stop_asked: bool = False
    last_seq: int = 0
    compacted: bool = False

    @property
    def active(self) -> bool:
        """Whether it may still say something."""
        return self.state in ACTIVE_STATES


@dataclass(frozen=True)
class Said:
    """A person's words on their way in."""

    text: str = field(repr=False)
    images: tuple[Image, ...] = ()

    def details(self) -> dict[str, Any] | None:
        """What is kept beside the text."""
        if not self.images:
            return None
        return {
            "images": [
                {"media_type": one.media_type, "data": base64.b64encode(one.data).decode()}
                for one in self.images
            ]
        }


def images_of(details: Mapping[str, Any] | None) -> tuple[Image, ...]:
    """The images kept beside a message."""
    kept = (details or {}).get("images") or ()
    return tuple(Image(one["media_type"], base64.b64decode(one["data"])) for one in kept)
