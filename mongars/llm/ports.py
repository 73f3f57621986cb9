"""The port of language models."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from mongars.llm.request import Capabilities, ChatMessage, ChatRequest, ModelCard, ModelEvent


class LanguageModel(Protocol):
    """A server of language models.

    Faults: `Unavailable` when the server is away, too slow or broke off; `Busy` when it has too
    much to do; `NotConfigured` when it refuses the key; `Invalid` with slug `too-long-for-model`
    (extra `prompt_tokens`, `context_tokens` where known) when the prompt is longer than the
    context; `Invalid` when the server refuses the request; `Missing` for an unknown model.
    """

    name: str
    """The backend's name in settings and metrics: `embedded`, `ollama`, `openai`."""

    seats: int
    """How many answers it makes at the same time without slowing each other unduly."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[ModelEvent, None]:
        """Answer; consume under `contextlib.aclosing`. Closing it frees the model at once."""
        ...

    async def models(self) -> Sequence[ModelCard]:
        """What this server has; raises `Unavailable` when it does not answer."""
        ...

    async def probe(self, model: str) -> Capabilities:
        """What this model can, asked or tried out."""
        ...

    async def count(self, messages: Sequence[ChatMessage], model: str) -> int | None:
        """Prompt tokens of these messages; `None` where the server cannot tell."""
        ...


@dataclass(frozen=True)
class Health:
    """How a backend is: `detail` says why it is not `ready`, and what to do."""

    state: Literal["loading", "ready", "restarting", "failed"]
    detail: str = ""


@runtime_checkable
class Loads(Protocol):
    """What a backend has besides when it loads its model itself."""

    @property
    def health(self) -> Health:
        """How it is right now, without asking anybody."""
        ...

    async def ready(self) -> None:
        """Wait until it can answer; raises `Unavailable` or `NotConfigured` when it will not."""
        ...

    async def use(self, model: str) -> None:
        """Load this model instead; raises `Missing`. Returns before it is loaded."""
        ...
