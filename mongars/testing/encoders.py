"""An encoder with simple rules in place of weights, and a server that answers with it."""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import orjson
from aiohttp import web

from mongars.neurons import Encoder, EncoderCard, Kind

if TYPE_CHECKING:
    from mongars.neurons import Vectors

_WORD = re.compile(r"\w+")


class HashingEncoder(Encoder):
    """Every word has a place and a sign of its own; texts that share words have near vectors."""

    def __init__(self, dimension: int = 256) -> None:
        self._dimension = dimension
        self.calls: list[tuple[Kind, tuple[str, ...]]] = []
        """What was asked, oldest first."""
        self.gate = asyncio.Event()
        """While not set, `encode` waits before it answers."""
        self.gate.set()
        self.cancelled = 0
        """How many calls were given up."""

    async def card(self) -> EncoderCard:
        """The digest tells only the dimension: the rules are always the same."""
        return EncoderCard("hashing", f"hashing-{self._dimension}", self._dimension)

    async def encode(self, texts: Sequence[str], *, kind: Kind) -> "Vectors":
        """Vectors of these texts, each of length 1."""
        self.calls.append((kind, tuple(texts)))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.vectors(texts)

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Words of each text."""
        return [len(_WORD.findall(text)) for text in texts]

    def vectors(self, texts: Sequence[str]) -> "Vectors":
        """The rules themselves."""
        import numpy as np

        found = np.zeros((len(texts), self._dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in _WORD.findall(text.lower()) or [""]:
                hashed = hashlib.blake2b(word.encode(), digest_size=8).digest()
                place = int.from_bytes(hashed[:7], "little") % self._dimension
                found[row, place] += 1.0 if hashed[7] & 1 else -1.0
            if not found[row].any():
                found[row, 0] = 1.0
        unit: Vectors = found / np.linalg.norm(found, axis=1, keepdims=True)
        return unit.astype(np.float32, copy=False)


@dataclass
class EncoderServer:
    """Embeddings over a real socket, in Ollama's protocol and in OpenAI's.

    `async with EncoderServer() as server`, then `server.url`; OpenAI's paths lie under `/v1`. It
    has one model, `hashing`.
    """

    key: str | None = None
    """The key that it asks for."""
    answer: tuple[int, bytes] | None = None
    """Status and body that it answers instead, whatever is asked."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """What was asked, oldest first."""
    digest: str = "sha256-of-the-weights"

    async def __aenter__(self) -> Self:
        self._encoder = HashingEncoder()
        app = web.Application(middlewares=[self._border])
        app.add_routes(
            [
                web.get("/api/tags", self._tags),
                web.post("/api/embed", self._embed),
                web.post("/v1/embeddings", self._embeddings),
            ]
        )
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    @web.middleware
    async def _border(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.answer is not None:
            return web.Response(status=self.answer[0], body=self.answer[1])
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return _json({"error": "wrong key"}, 401)
        answered: web.StreamResponse = await handler(request)
        return answered

    async def _read(self, request: web.Request) -> list[list[float]] | None:
        body = orjson.loads(await request.read())
        self.bodies.append(body)
        if body["model"] not in ("hashing", "hashing:latest"):
            return None
        vectors: list[list[float]] = (self._encoder.vectors(body["input"]) * 3).tolist()
        return vectors

    async def _tags(self, _: web.Request) -> web.Response:
        return _json({"models": [{"name": "hashing:latest", "digest": self.digest}]})

    async def _embed(self, request: web.Request) -> web.Response:
        vectors = await self._read(request)
        if vectors is None:
            return _json({"error": "model not found"}, 404)
        return _json({"model": "hashing", "embeddings": vectors})

    async def _embeddings(self, request: web.Request) -> web.Response:
        vectors = await self._read(request)
        if vectors is None:
            return _json({"error": {"message": "model not found"}}, 404)
        data = [{"object": "embedding", "index": n, "embedding": v} for n, v in enumerate(vectors)]
        return _json({"object": "list", "data": data[::-1], "model": "hashing"})


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
