"""What is said to begin a turn, over HTTP and over the socket, and what is told of it."""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from mongars.api.shapes import Asked, Id, Time, Told, Words
from mongars.cortex import Options, Said, Turn
from mongars.errors import FieldFault, Invalid
from mongars.llm import Image

ModelName = Annotated[str, Field(min_length=1, max_length=200)]


class Attachment(Asked):
    """An image that goes with a message, for models that see."""

    type: Literal["image"]
    media_type: Literal["image/png", "image/jpeg", "image/webp", "image/gif"]
    data: Annotated[str, Field(min_length=1)]
    """The image in base64."""


class OptionsAsked(Asked):
    """What is wanted of this one answer; left out: as the conversation says."""

    model: ModelName | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None


class AgainAsked(Asked):
    """How an answer is made again, or gone on with."""

    options: OptionsAsked | None = None
    client_id: Id | None = None
    """A name of the client's own for this turn, told back in `started`."""


class ChatAsked(AgainAsked):
    """Words to say."""

    message: Words
    conversation_id: Id | None = None
    """Left out: a new conversation."""
    attachments: Annotated[Sequence[Attachment], Field(max_length=8)] = ()


class EditAsked(AgainAsked):
    """The same message in other words."""

    text: Words


def options(asked: OptionsAsked | None) -> Options:
    """In the terms of a turn."""
    return Options() if asked is None else Options(**asked.model_dump())


def said(asked: ChatAsked) -> Said:
    """The words and images. Raises `Invalid` for an image that cannot be read."""
    images = [_image(one, place) for place, one in enumerate(asked.attachments)]
    return Said(asked.message, tuple(images))


def _image(asked: Attachment, place: int) -> Image:
    try:
        return Image(asked.media_type, base64.b64decode(asked.data, validate=True))
    except (binascii.Error, ValueError) as error:
        fault = FieldFault(("body", "attachments", place, "data"), "is not base64")
        raise Invalid("An attachment cannot be read.", errors=[fault]) from error


class TurnTold(Told):
    """A turn. `message_id` is the message that is answered, `answer_id` the answer."""

    id: str
    conversation_id: str
    message_id: str
    answer_id: str
    kind: Literal["say", "regenerate", "continue", "edit"]
    state: Literal["queued", "running", "done", "stopped", "failed"]
    model: str | None
    error: dict[str, Any] | None
    created_at: Time
    started_at: Time | None
    ended_at: Time | None

    @classmethod
    def of(cls, turn: Turn) -> "TurnTold":
        """As its owner sees it."""
        return cls.model_validate(turn)


class MessageTold(Told):
    """A message."""

    id: str
    conversation_id: str
    parent_id: str | None
    role: Literal["user", "assistant", "system"]
    text: str
    at: str
    state: str
    model: str | None


class UsageTold(Told):
    """Tokens; null where the model did not tell, as when it was stopped."""

    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None = None


class TimingTold(Told):
    """Milliseconds from the words to the first token, and to the end."""

    first_token_ms: float | None
    total_ms: float


class ChatTold(Told):
    """An answer."""

    turn_id: str
    conversation_id: str
    message: MessageTold
    model: str | None
    finish_reason: Literal["stop", "length", "stopped"]
    usage: UsageTold
    timing: TimingTold
    memories: list[dict[str, Any]]
    sources: list[dict[str, Any]]
