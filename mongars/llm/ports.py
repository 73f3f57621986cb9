"""The port of language models."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from mongars.llm.request import Capabilities, ChatMessage, ChatRequest, ModelCard, ModelEvent


class LanguageModel(Protocol):
    """A server of language models.

    Faults: `Unavailable` when the server is away, too slow or broke off; `Invalid` with slug
    `too-long-for-model` (extra `prompt_tokens`, `context_tokens` where known) when the prompt is
    longer than the context; `Invalid` when the server refuses the request; `Missing` for an
    unknown model.
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
