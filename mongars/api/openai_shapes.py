"""OpenAI's shapes: requests that refuse what is not honoured, and answers their clients read."""

import base64
import binascii
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mongars.api.shapes import Asked, Words
from mongars.errors import FieldFault, Invalid
from mongars.llm import ChatMessage, Finished, Image, Usage

if TYPE_CHECKING:
    import numpy as np

MAX_TEXTS = 2048


def _only_null(value: Any) -> Any:
    if value is not None:
        raise ValueError("is not supported; leave it out")
    return value


Null = Annotated[Any, AfterValidator(_only_null)]
"""A field that OpenAI's clients may send empty, and that is refused otherwise."""


class TextPart(Asked):
    """A piece of text of a message."""

    type: Literal["text"]
    text: Words


class ImageUrl(Asked):
    """An image inside the request itself."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Asked):
    """An image of a message, as a `data:` address."""

    type: Literal["image_url"]
    image_url: ImageUrl


class MessageAsked(Asked):
    """One message."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Words | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]
    name: Null = None
    refusal: Null = None
    tool_calls: Null = None
    function_call: Null = None
    audio: Null = None
    annotations: list[Any] | None = Field(default=None, max_length=0)
    reasoning_content: Null = None


class JsonSchema(Asked):
    """The schema that an answer must follow."""

    name: str
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Asked):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Asked):
    """What the stream tells."""

    include_usage: bool = False


class CompletionAsked(Asked):
    """A chat completion. What is not listed here is refused."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    messages: Annotated[list[MessageAsked], Field(min_length=1, max_length=10_000)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    response_format: ResponseFormat | None = None
    user: str | None = None
    """A label of the caller's own; it has no effect on the answer."""
    tools: Null = None
    tool_choice: Null = None
    logprobs: Annotated[Literal[False] | None, Field()] = None
    store: Annotated[Literal[False] | None, Field()] = None

    def stops(self) -> tuple[str, ...]:
        """The texts at which the answer ends."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class EmbeddingsAsked(Asked):
    """Texts to encode."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: Words | Annotated[list[Words], Field(min_length=1, max_length=MAX_TEXTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None
    """A label of the caller's own; it has no effect on the vectors."""

    def texts(self) -> list[str]:
        """Every text."""
        return [self.input] if isinstance(self.input, str) else list(self.input)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class UsageTold(_Answer):
    """Tokens of one request."""

    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int
    prompt_tokens_details: dict[str, int] | None = None


class MessageTold(_Answer):
    """The answer's message."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None
    reasoning_content: str | None = None


class Choice(_Answer):
    """The one answer."""

    index: int = 0
    message: MessageTold
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class Completion(_Answer):
    """A whole chat completion."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: UsageTold


class Model(_Answer):
    """A model that can be named in a request."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "mongars"


class Models(_Answer):
    """Every model."""

    object: Literal["list"] = "list"
    data: list[Model]


class Embedding(_Answer):
    """One vector: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(_Answer):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(_Answer):
    """The vectors, in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


def chat_message(asked: MessageAsked, index: int) -> ChatMessage:
    """A message in our terms. Raises `Invalid` for an image that is not in the request itself."""
    role = "system" if asked.role == "developer" else asked.role
    if isinstance(asked.content, str):
        return ChatMessage(role, asked.content)
    texts = [part.text for part in asked.content if isinstance(part, TextPart)]
    images = [
        _image(part.image_url.url, ("body", "messages", index, "content", place))
        for place, part in enumerate(asked.content)
        if isinstance(part, ImagePart)
    ]
    return ChatMessage(role, "\n".join(texts), tuple(images))


def _image(url: str, loc: tuple[str | int, ...]) -> Image:
    head, comma, data = url.partition(",")
    media_type = head.removeprefix("data:").removesuffix(";base64")
    try:
        if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
            raise ValueError
        return Image(media_type, base64.b64decode(data, validate=True))
    except (ValueError, binascii.Error) as error:
        raise Invalid(
            "An image must be in the request itself, as data:image/…;base64,…",
            errors=[FieldFault((*loc, "image_url", "url"), "is not a data: address of an image")],
        ) from error


def finish_reason(reason: str) -> Literal["stop", "length"]:
    """Why the answer ended, in OpenAI's words."""
    return "length" if reason == "length" else "stop"


def usage(told: Usage) -> UsageTold:
    """Tokens, in OpenAI's words."""
    details = None if told.cached_tokens is None else {"cached_tokens": told.cached_tokens}
    return UsageTold(
        prompt_tokens=told.prompt_tokens,
        completion_tokens=told.completion_tokens,
        total_tokens=told.prompt_tokens + told.completion_tokens,
        prompt_tokens_details=details,
    )


def completion(
    completion_id: str, model: str, text: str, thinking: str | None, finished: Finished
) -> Completion:
    """A whole completion."""
    choice = Choice(
        message=MessageTold(content=text, reasoning_content=thinking),
        finish_reason=finish_reason(finished.reason),
    )
    return Completion(
        id=completion_id,
        created=int(time.time()),
        model=model,
        choices=[choice],
        usage=usage(finished.usage),
    )


def embeddings(
    vectors: "np.ndarray[Any, Any]",
    model: str,
    tokens: int,
    encoding_format: Literal["float", "base64"],
) -> Embeddings:
    """Vectors in OpenAI's shape."""

    def told(vector: "np.ndarray[Any, Any]") -> list[float] | str:
        if encoding_format == "base64":
            return base64.b64encode(vector.astype("<f4").tobytes()).decode()
        return [float(number) for number in vector]

    data: Sequence[Embedding] = [
        Embedding(index=index, embedding=told(vector)) for index, vector in enumerate(vectors)
    ]
    return Embeddings(
        data=list(data),
        model=model,
        usage=EmbeddingsUsage(prompt_tokens=tokens, total_tokens=tokens),
    )
