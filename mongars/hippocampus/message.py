"""Conversations and their messages, as everybody else sees them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Role = Literal["user", "assistant", "system"]
MessageState = Literal["writing", "done", "stopped", "failed", "interrupted"]


@dataclass(frozen=True)
class Conversation:
    """A conversation; its messages form a tree, and `active_leaf_id` is the end of the branch in view."""

    id: str
    owner_id: str
    title: str | None
    model: str | None
    system_prompt: str | None
    temperature: float | None
    tags: tuple[str, ...]
    pinned: bool
    archived: bool
    temporary: bool
    active_leaf_id: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Message:
    """One message; `parent_id` is what it answers or follows.

    `state` is `writing` while a turn works on it. `details` carries what is known about how an
    answer was made (finish_reason, usage, timing, thinking).
    """

    id: str
    conversation_id: str
    parent_id: str | None
    role: Role
    text: str
    at: datetime
    state: MessageState = "done"
    model: str | None = None
    speaker: str | None = None
    external_id: str | None = None
    details: Mapping[str, Any] | None = None
