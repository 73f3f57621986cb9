"""Conversations and messages as they are asked for and told."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from mongars.api.shapes import Asked, Id, Line, Time, Told, Words
from mongars.hippocampus import Conversation, Hit, Imported, Message, Preset

TITLE = 200
MODEL = Annotated[str, Field(min_length=1, max_length=200)]
SystemPrompt = Annotated[Words, Field(max_length=32_000)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
Tags = Annotated[list[Line], Field(max_length=32)]


def _said(value: Any) -> Any:
    if value is None:
        raise ValueError("must not be null; leave it out to keep it as it is")
    return value


Flag = Annotated[bool | None, AfterValidator(_said)]


class ConversationAsked(Asked):
    """A new conversation; everything may be left out."""

    title: Line | None = None
    model: MODEL | None = None
    system_prompt: SystemPrompt | None = None
    temperature: Temperature | None = None
    tags: Tags = Field(default_factory=list)
    pinned: bool = False
    temporary: bool = False


class ConversationChanged(Asked):
    """Changes; what is left out stays. Null takes a title, model, prompt or temperature away."""

    title: Line | None = None
    model: MODEL | None = None
    system_prompt: SystemPrompt | None = None
    temperature: Temperature | None = None
    tags: Annotated[Tags | None, AfterValidator(_said)] = None
    pinned: Flag = None
    archived: Flag = None
    active_leaf_id: Annotated[Id | None, AfterValidator(_said)] = None
    """A message of this conversation: the branch that ends in it comes into view."""


class ConversationTold(Told):
    """A conversation."""

    id: str
    title: str | None
    model: str | None
    system_prompt: str | None
    temperature: float | None
    tags: tuple[str, ...]
    pinned: bool
    archived: bool
    temporary: bool
    active_leaf_id: str | None
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, conversation: Conversation) -> "ConversationTold":
        """As its owner sees it."""
        return cls.model_validate(conversation)


class MessageTold(Told):
    """A message. `details` tells how an answer was made: usage, timing, thinking."""

    id: str
    conversation_id: str
    parent_id: str | None
    role: Literal["user", "assistant", "system"]
    text: str
    at: Time
    state: str
    model: str | None
    speaker: str | None = None
    external_id: str | None = None
    details: dict[str, Any] | None = None

    @classmethod
    def of(cls, message: Message) -> "MessageTold":
        """As its owner sees it."""
        return cls.model_validate(message)


class ForkAsked(Asked):
    """Where the copy ends; left out: with the branch in view."""

    message_id: Id | None = None


class HitTold(Told):
    """A conversation in which the words stand, and where."""

    conversation: ConversationTold
    message_id: str | None
    snippet: str
    at: Time

    @classmethod
    def of(cls, hit: Hit) -> "HitTold":
        """As it is listed."""
        return cls.model_validate(hit)


class FeedbackAsked(Asked):
    """What a person thinks of an answer."""

    value: Literal[-1, 1]
    text: Annotated[Words, Field(max_length=2000)] | None = None


class PresetAsked(Asked):
    """A preset: what conversations can begin with."""

    name: Line
    model: MODEL | None = None
    system_prompt: SystemPrompt | None = None
    temperature: Temperature | None = None


class PresetChanged(Asked):
    """Changes; what is left out stays."""

    name: Annotated[Line | None, AfterValidator(_said)] = None
    model: MODEL | None = None
    system_prompt: SystemPrompt | None = None
    temperature: Temperature | None = None


class PresetTold(Told):
    """A preset."""

    id: str
    name: str
    model: str | None
    system_prompt: str | None
    temperature: float | None
    created_at: Time

    @classmethod
    def of(cls, preset: Preset) -> "PresetTold":
        """As its owner sees it."""
        return cls.model_validate(preset)


class ImportAsked(Asked):
    """Conversations to bring in: a list of them under `conversations`, or a whole export."""

    format: Literal["mongars", "chatgpt", "openwebui"]
    conversations: list[Any]
    presets: list[Any] | None = None
    """Kept where their names are not taken."""
    version: Literal[1] | None = None
    exported_at: str | None = None


class ImportTold(Told):
    """What came in, and what did not, and why."""

    imported: dict[str, int]
    skipped: list[dict[str, Any]]
    skipped_count: int

    @classmethod
    def of(cls, imported: Imported) -> "ImportTold":
        """As it is answered."""
        return cls.model_validate(imported.told())
