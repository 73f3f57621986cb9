"""Any server that speaks OpenAI's protocol: llama.cpp, vLLM, LM Studio, OpenAI itself."""

import contextlib
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import aiohttp

from mongars.errors import Missing, NotConfigured
from mongars.llm.adapters.completions import Completions, body_of, message_body
from mongars.llm.request import Capabilities, ChatMessage, ChatRequest, ModelCard, ModelEvent
from mongars.llm.settings import LLMSettings

_SEATS = 8
_LOOPBACK = re.compile(r"https?://(localhost|127\.[\d.]+|\[::1\])(:\d+)?(/|$)")


@dataclass(frozen=True)
class _About:
    """What `/models` tells."""

    cards: Sequence[ModelCard]
    llama_cpp: bool


class OpenAI:
    """One server; what it tells about its models is asked once, and again with `models()`."""

    name = "openai"

    def __init__(self, url: str, settings: LLMSettings, http: aiohttp.ClientSession) -> None:
        self.seats = settings.seats or _SEATS
        self._settings = settings
        key = settings.api_key
        self._server = Completions(
            http,
            url,
            settings,
            who=f"The model server at {url}",
            hint="Start it, or set MONGARS_LLM__URL.",
            api_key=None if key is None else key.get_secret_value(),
        )
        self._models_path = "/v1/models" if url.rstrip("/").endswith("/v1") else "/models"
        self._about: _About | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: LLMSettings) -> AsyncGenerator["OpenAI"]:
        """With a session of its own; asks nobody. Raises `NotConfigured` without an address."""
        if not settings.url:
            raise NotConfigured("Say where the model server is: MONGARS_LLM__URL=http://HOST/v1")
        # Addresses of this machine are never asked through the environment's proxy.
        async with session(trust_env=not _LOOPBACK.match(settings.url)) as http:
            yield cls(settings.url, settings, http)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ModelEvent, None]:
        """Answer; closing the generator closes the connection, upon which servers stop."""
        about = await self._known()
        model = request.model or self._settings.model
        if model is None and about.cards:
            model = about.cards[0].name
        if about.llama_cpp and model not in {card.name for card in about.cards}:
            # llama.cpp would answer under any name, with the one model it has.
            raise Missing(f"The model server has no model {str(model)[:140]!r}.")
        body = body_of(request, model)
        if about.llama_cpp:
            body["return_progress"] = True
        async with aclosing(self._server.stream(body)) as events:
            async for event in events:
                yield event

    async def models(self) -> Sequence[ModelCard]:
        """What `/models` lists."""
        told = await self._server.ask("GET", self._models_path)
        rows = [row for row in told.get("data") or () if isinstance(row, dict)]
        self._about = _About(
            [_card(row) for row in rows],
            any(row.get("owned_by") == "llamacpp" for row in rows),
        )
        return self._about.cards

    async def probe(self, model: str) -> Capabilities:
        """What `/models` tells about it; the protocol tells little."""
        for card in await self.models():
            if card.name == model:
                return Capabilities(context_tokens=card.context_tokens)
        raise Missing(f"The model server has no model {model[:140]!r}.")

    async def count(self, messages: Sequence[ChatMessage], model: str) -> int | None:
        """Only llama.cpp can tell."""
        about = await self._known()
        return await count_llama_cpp(self._server, messages) if about.llama_cpp else None

    async def _known(self) -> _About:
        """What was told before; a server without a list of models can answer all the same."""
        if self._about is None:
            try:
                await self.models()
            except Missing:
                self._about = _About((), False)
        assert self._about is not None
        return self._about


def session(
    connector: aiohttp.BaseConnector | None = None, *, trust_env: bool = False
) -> aiohttp.ClientSession:
    """An HTTP session for models: no cookies, and no limit but the fair queue's."""
    return aiohttp.ClientSession(
        connector=connector or aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=trust_env,
    )


async def count_llama_cpp(server: Completions, messages: Sequence[ChatMessage]) -> int:
    """Tokens of these messages in the model's own template, by llama.cpp's own calls."""
    texts = [message_body(ChatMessage(one.role, one.text)) for one in messages]
    prompt = await server.ask("POST", "/apply-template", {"messages": texts})
    content = {"content": prompt["prompt"], "add_special": True, "parse_special": True}
    return len((await server.ask("POST", "/tokenize", content))["tokens"])


def _card(row: dict[str, Any]) -> ModelCard:
    meta = row.get("meta") or {}
    context = row.get("max_model_len") or row.get("context_length") or meta.get("n_ctx_train")
    name = str(row.get("id"))
    return ModelCard(
        name=name,
        backend=OpenAI.name,
        size_bytes=meta.get("size"),
        context_tokens=context if isinstance(context, int) else None,
        chat="embed" not in name.lower(),
    )
