"""Encoders of any server that speaks OpenAI's `/v1/embeddings`."""

import contextlib
import hashlib
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

import httpx

from mongars.errors import NotConfigured, Unavailable
from mongars.neurons.adapters.http import ask, unit_rows
from mongars.neurons.ports import EncoderCard, Kind
from mongars.neurons.settings import NeuronsSettings

if TYPE_CHECKING:
    from mongars.neurons.ports import Vectors


class OpenAIEncoder:
    """One embedding model behind `<url>/embeddings`."""

    def __init__(self, settings: NeuronsSettings, model: str, client: httpx.AsyncClient) -> None:
        self._model = model
        self._client = client
        self._prefixes = {"query": settings.query_prefix, "passage": settings.passage_prefix}
        self._card: EncoderCard | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: NeuronsSettings) -> AsyncGenerator["OpenAIEncoder"]:
        """Open it; the server is asked at the first text. Raises `NotConfigured`."""
        if not settings.url:
            raise NotConfigured("Say where it is: MONGARS_NEURONS__URL=http://localhost:8080/v1")
        if not settings.model:
            raise NotConfigured("Name the encoder: MONGARS_NEURONS__MODEL=…")
        key = settings.api_key
        headers = {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}
        headers["Content-Type"] = "application/json"
        async with httpx.AsyncClient(
            base_url=settings.url, headers=headers, timeout=settings.timeout_s
        ) as client:
            yield cls(settings, settings.model, client)

    async def card(self) -> EncoderCard:
        """The protocol tells no digest of the weights: address, model and prefixes stand for it."""
        if self._card is None:
            dimension = (await self._embed(["."])).shape[1]
            parts = [str(self._client.base_url), self._model, *self._prefixes.values()]
            digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
            self._card = EncoderCard(self._model, f"{digest}-{dimension}", dimension)
        return self._card

    async def encode(self, texts: Sequence[str], *, kind: Kind) -> "Vectors":
        """Vectors of these texts, each of length 1."""
        return await self._embed([self._prefixes[kind] + text for text in texts])

    async def count_tokens(self, texts: Sequence[str]) -> None:
        """The protocol tells only the sum over a request."""

    async def _embed(self, texts: list[str]) -> "Vectors":
        body = {"model": self._model, "input": texts, "encoding_format": "float"}
        answer = await ask(self._client, "POST", "embeddings", body)
        try:
            rows = sorted(answer["data"], key=lambda row: row["index"])
            found = [row["embedding"] for row in rows]
        except (KeyError, TypeError) as error:
            raise Unavailable("The encoder answered with something else than vectors.") from error
        return unit_rows(found, len(texts))
