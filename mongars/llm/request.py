"""What is asked of a language model, and what comes back while it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "stopped", "tool_calls"]


@dataclass(frozen=True)
class Image:
    """An image that goes with a message."""

    media_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class ChatMessage:
    """One message as a model reads it."""

    role: Role
    text: str = field(repr=False)
    images: tuple[Image, ...] = ()


@dataclass(frozen=True)
class ChatRequest:
    """One question to a language model.

    `model` is the model's name inside its backend; `None` means the one in use.
    `owner_id` is for fairness and for the cache, and never reaches the model's server.
    `extra` carries parameters that a backend takes under their OpenAI names (`top_k`, `logit_bias`,
    `tools`…).
    """

    messages: tuple[ChatMessage, ...]
    owner_id: str
    model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    json_schema: Mapping[str, Any] | None = None
    json_object: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Waiting:
    """Others are before this request; `position` counts from 1."""

    position: int


@dataclass(frozen=True)
class Notice:
    """Something the person should know about how the answer is made, in a sentence."""

    text: str


@dataclass(frozen=True)
class Started:
    """A model took the request: the full name (`backend/model`) of who answers."""

    model: str


@dataclass(frozen=True)
class Reading:
    """The prompt is being read: tokens done out of total."""

    done: int
    total: int


@dataclass(frozen=True)
class Thinking:
    """A piece of a thinking model's reasoning; not part of the answer."""

    text: str


@dataclass(frozen=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """A tool that the model wants called; `arguments` is JSON as the model wrote it."""

    id: str
    name: str
    arguments: str = field(repr=False)


@dataclass(frozen=True)
class Usage:
    """Tokens of one request; 0 where the server does not tell.

    `cached_tokens` of the prompt were not read again (`None`: not told).
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None


@dataclass(frozen=True)
class Finished:
    """The last event of every answer that came to an end."""

    reason: FinishReason
    usage: Usage


ModelEvent = Reading | Thinking | Text | ToolCall | Finished
"""What one backend yields: any number of the others, then exactly one `Finished`."""

AnswerEvent = Waiting | Notice | Started | ModelEvent
"""What `LLMIntegration` yields; `Started` comes before the first `ModelEvent`."""


@dataclass(frozen=True)
class ModelCard:
    """A model that a backend has. `digest` changes when the weights do; sizes in bytes."""

    name: str
    backend: str
    digest: str | None = None
    size_bytes: int | None = None
    context_tokens: int | None = None
    chat: bool = True

    @property
    def full_name(self) -> str:
        """The name people and clients use: `backend/name`."""
        return f"{self.backend}/{self.name}"


@dataclass(frozen=True)
class Capabilities:
    """What a model can, measured or told by its backend; `None`: not known.

    Speeds are in tokens a second.
    """

    context_tokens: int | None = None
    tools: bool | None = None
    json_schema: bool | None = None
    vision: bool | None = None
    thinking: bool | None = None
    embeddings: bool | None = None
    reading_per_s: float | None = None
    writing_per_s: float | None = None
