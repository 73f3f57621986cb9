"""The encoder that the settings name, with its batches and its cache."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mongars.cache import TieredCache
from mongars.errors import NotBuilt, NotConfigured
from mongars.neurons.batcher import Batcher
from mongars.neurons.ports import Encoder, EncoderCard, Kind
from mongars.neurons.settings import NeuronsSettings

if TYPE_CHECKING:
    from mongars.neurons.ports import Vectors

NAMESPACE = "vectors"

_ADAPTERS = {
    "embedded": "mongars.neurons.adapters.embedded:EmbeddedEncoder",
    "ollama": "mongars.neurons.adapters.ollama:OllamaEncoder",
    "openai": "mongars.neurons.adapters.openai:OpenAIEncoder",
}


class Neurons:
    """Texts to vectors. What was encoded before comes from the cache."""

    def __init__(self, encoder: Encoder, batcher: Batcher, cache: TieredCache) -> None:
        self._encoder = encoder
        self._batcher = batcher
        self._cache = cache

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: NeuronsSettings, cache: TieredCache) -> AsyncGenerator["Neurons"]:
        """Open the encoder; nothing is loaded or asked before the first text.

        Raises `NotConfigured` for a setting that is missing or wrong, `NotBuilt` for `llm2vec`.
        """
        async with _encoder(settings) as encoder, Neurons.over(encoder, cache) as neurons:
            yield neurons

    @classmethod
    @contextlib.asynccontextmanager
    async def over(cls, encoder: Encoder, cache: TieredCache) -> AsyncGenerator["Neurons"]:
        """The same over an encoder that is open already."""
        async with Batcher.open(encoder) as batcher:
            yield cls(encoder, batcher, cache)

    async def card(self) -> EncoderCard:
        """Which encoder this is: vectors can be compared only under the same `digest`."""
        return await self._encoder.card()

    async def encode(
        self, texts: Sequence[str], *, kind: Kind = "passage", owner_id: str | None
    ) -> "Vectors":
        """Vectors of these texts in their order: float32 `[n, dimension]`, each of length 1.

        What is cached is tagged with the owner whose texts these are; `None` is for texts that are
        nobody's. Raises `Unavailable`, `NotConfigured` or `Missing`.
        """
        import numpy as np

        card = await self._encoder.card()
        texts = [_valid(text) for text in texts]
        found = np.zeros((len(texts), card.dimension), dtype=np.float32)
        async with _unwrapped(), asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._vector(text, kind, card, owner_id)) for text in texts]
        for row, task in enumerate(asked):
            found[row] = np.frombuffer(task.result(), dtype="<f4")
        return found

    async def count_tokens(self, texts: Sequence[str]) -> list[int] | None:
        """Tokens of each text as the encoder reads it; `None` where it cannot tell."""
        return await self._encoder.count_tokens([_valid(text) for text in texts]) if texts else []

    async def _vector(
        self, text: str, kind: Kind, card: EncoderCard, owner_id: str | None
    ) -> bytes:
        return await self._cache.get_or_make(
            NAMESPACE,
            f"{card.digest}\0{kind}\0{text}",
            lambda: self._batcher.vector(text, kind),
            owner_id=owner_id,
        )


def _encoder(settings: NeuronsSettings) -> AbstractAsyncContextManager[Encoder]:
    if settings.backend == "llm2vec":
        raise NotBuilt("LLM2Vec is not built yet: set MONGARS_NEURONS__BACKEND=embedded")
    module, _, name = _ADAPTERS.get(settings.backend, settings.backend).partition(":")
    try:
        adapter: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise NotConfigured(f"There is no encoder {settings.backend}: {error}") from error
    opened: AbstractAsyncContextManager[Encoder] = adapter.open(settings)
    return opened


def _valid(text: str) -> str:
    """Half a surrogate pair, which no encoder takes, becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


@contextlib.asynccontextmanager
async def _unwrapped() -> AsyncGenerator[None]:
    """The first fault of a task group as it is."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
