"""A small server that speaks OpenAI's protocol the way llama.cpp, vLLM and others do, for tests."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from aiohttp import web

CONTEXT = 200


@dataclass
class OpenAIServer:
    """`async with OpenAIServer() as server`, then `server.url`. Echoes the last message by words."""

    key: str | None = None
    model: str = "small"
    owned_by: str = "vllm"
    context: int = CONTEXT
    done_line: bool = True
    refuse: tuple[int, Any] | None = None
    """Status and body that `/chat/completions` answers instead."""
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[Any] | None = None
    """Chunks to send instead of the echo; bytes are sent as they are."""
    cut_after: int | None = None
    """Chunks before the connection is cut."""
    hang_after: int | None = None
    """Chunks before nothing comes until `resume` is set."""
    resume: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[dict[str, Any]] = field(default_factory=list)
    active: int = 0
    abandoned: int = 0
    listings: int = 0

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/apply-template", self._template)
        app.router.add_post("/tokenize", self._tokenize)
        self._changed = asyncio.Condition()
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def until(self, true: Callable[[Self], bool]) -> None:
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(lambda: true(self))

    def _refused(self, request: web.Request) -> web.Response | None:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return _json({"error": {"message": "Invalid API Key", "code": 401}}, 401)
        return None

    async def _models(self, request: web.Request) -> web.Response:
        self.listings += 1
        row = {"id": self.model, "object": "model", "owned_by": self.owned_by}
        return self._refused(request) or _json({"data": [{**row, "max_model_len": self.context}]})

    async def _template(self, request: web.Request) -> web.Response:
        messages = orjson.loads(await request.read())["messages"]
        return _json({"prompt": " ".join(one["content"] for one in messages)})

    async def _tokenize(self, request: web.Request) -> web.Response:
        return _json({"tokens": orjson.loads(await request.read())["content"].split()})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.requests.append(body)
        if refused := self._refused(request) or self._refusal(body):
            return refused
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await self._count(1)
        try:
            for place, chunk in enumerate(self.chunks or self._echo(body)):
                if place == self.hang_after:
                    await self.resume.wait()
                if place == self.cut_after:
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                raw = chunk if isinstance(chunk, bytes) else b"data: %b\n\n" % orjson.dumps(chunk)
                await response.write(raw)
            if self.done_line:
                await response.write(b"data: [DONE]\n\n")
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        finally:
            await asyncio.shield(self._count(-1))
        return response

    async def _count(self, more: int) -> None:
        async with self._changed:
            self.active += more
            self._changed.notify_all()

    def _refusal(self, body: dict[str, Any]) -> web.Response | None:
        if self.refuse is not None:
            return _json(self.refuse[1], self.refuse[0], self.headers)
        if body.get("model") not in (None, self.model):
            return _json({"error": {"message": "no such model", "code": 404}}, 404)
        tokens = _tokens(body)
        if tokens > self.context:
            said = (
                f"This model's maximum context length is {self.context} tokens. However, you "
                f"requested {tokens + 10} tokens ({tokens} in the messages, 10 in the completion)."
            )
            return _json({"object": "error", "message": said, "code": 400}, 400)
        return None

    def _echo(self, body: dict[str, Any]) -> list[Any]:
        text = str(body["messages"][-1]["content"])
        if body.get("response_format", {}).get("type") == "json_schema":
            text = '{"name":"text","age":7}'
        for stop in body.get("stop", ()):
            text = text.partition(stop)[0]
        words = text.split(" ")
        most = body.get("max_tokens", len(words))
        pieces = [word if n == 0 else f" {word}" for n, word in enumerate(words[:most])]
        reason = "length" if most < len(words) else "stop"
        usage = {"prompt_tokens": _tokens(body), "completion_tokens": len(pieces)}
        return [
            *(piece_chunk({"content": piece}) for piece in pieces),
            piece_chunk({}, reason),
            {"choices": [], "usage": usage},
        ]


def piece_chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def _tokens(body: dict[str, Any]) -> int:
    return sum(len(str(one["content"]).split()) for one in body["messages"])


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return web.Response(
        body=content, status=status, headers=headers, content_type="application/json"
    )
