"""Encoders of an Ollama server (`/api/embed`)."""

import contextlib
import hashlib
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

import httpx

from mongars.errors import Missing, NotConfigured
from mongars.neurons.adapters.http import ask, unit_rows
from mongars.neurons.ports import EncoderCard, Kind
from mongars.neurons.settings import NeuronsSettings

if TYPE_CHECKING:
    from mongars.neurons.ports import Vectors

DEFAULT_URL = "http://127.0.0.1:11434"


class OllamaEncoder:
    """One embedding model of an Ollama server; a text too long for it is cut there."""

    def __init__(self, settings: NeuronsSettings, model: str, client: httpx.AsyncClient) -> None:
        self._model = model
        self._client = client
        self._prefixes = {"query": settings.query_prefix, "passage": settings.passage_prefix}
        self._card: EncoderCard | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: NeuronsSettings) -> AsyncGenerator["OllamaEncoder"]:
        """Open it; the server is asked at the first text. Raises `NotConfigured`."""
        if not settings.model:
            raise NotConfigured("Name the encoder: MONGARS_NEURONS__MODEL=nomic-embed-text")
        key = settings.api_key
        headers = {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}
        async with httpx.AsyncClient(
            base_url=settings.url or DEFAULT_URL, headers=headers, timeout=settings.timeout_s
        ) as client:
            yield cls(settings, settings.model, client)

    async def card(self) -> EncoderCard:
        """Made of Ollama's digest of the model, with the prefixes that change its vectors."""
        if self._card is None:
            digest = await self._digest()
            dimension = (await self._embed(["."])).shape[1]
            made = hashlib.blake2b(f"{digest};{self._prefixes}".encode(), digest_size=16)
            self._card = EncoderCard(self._model, made.hexdigest(), dimension)
        return self._card

    async def encode(self, texts: Sequence[str], *, kind: Kind) -> "Vectors":
        """Vectors of these texts, each of length 1."""
        return await self._embed([self._prefixes[kind] + text for text in texts])

    async def count_tokens(self, texts: Sequence[str]) -> None:
        """Ollama tells only the sum over a request."""

    async def _embed(self, texts: list[str]) -> "Vectors":
        body = {"model": self._model, "input": texts, "truncate": True}
        answer = await ask(self._client, "POST", "/api/embed", body)
        return unit_rows(answer.get("embeddings"), len(texts))

    async def _digest(self) -> str:
        answer = await ask(self._client, "GET", "/api/tags")
        wanted = {self._model, f"{self._model}:latest"}
        for model in answer.get("models", ()):
            if model.get("name") in wanted or model.get("model") in wanted:
                return str(model["digest"])
        raise Missing(f"Ollama does not have {self._model}: ollama pull {self._model}")
