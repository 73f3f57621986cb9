"""A server that speaks Ollama's documented HTTP protocol, with simple rules in place of weights.

It is a real server on a real socket. Its answers repeat the last message of the person, word by
word, so that a test can say what must come. What a test wants to go wrong is set on `Trouble`.
`python -m mongars.testing.ollama --port 11434` runs it alone.
"""

import argparse
import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web

VERSION = "0.12.6"
"""The version that this server says it is."""


@dataclass
class OllamaModel:
    """A model that this server has."""

    name: str
    capabilities: tuple[str, ...] | None = ("completion", "tools")
    """As in `/api/show`; `None` leaves the field out, as old servers did."""
    context_tokens: int = 32_768
    size_bytes: int = 1_000_000
    family: str = "llama"
    licence: str = "Apache License 2.0"

    @property
    def digest(self) -> str:
        """A stable digest made from the name."""
        return hashlib.sha256(self.name.encode()).hexdigest()


@dataclass
class Trouble:
    """What should go wrong. Everything off by default."""

    error_after: int | None = None
    """Pieces of the answer before a line `{"error": …}`."""
    cut_after: int | None = None
    """Pieces of the answer before the connection is cut."""
    end_after: int | None = None
    """Pieces of the answer before the stream ends in good order, but without its last line."""
    hang_after: int | None = None
    """Pieces of the answer before nothing comes any more."""
    refuse: tuple[int, str] | None = None
    """Status and message that `/api/chat` answers instead."""
    garbage: bool = False
    """A line that is not JSON comes first."""
    cut_pull_after: int | None = None
    """Lines of a pull before the connection is cut."""


def words(text: str) -> list[str]:
    """The text in pieces that join to it again: each word with the space before it."""
    pieces: list[str] = []
    for part in text.split(" "):
        pieces.append(part if not pieces else f" {part}")
    return [piece for piece in pieces if piece]


def tokens_of(messages: list[dict[str, Any]]) -> int:
    """How this server counts: a token per word, four around each message."""
    return sum(len(str(message.get("content", "")).split()) + 4 for message in messages)


def answer_of(body: dict[str, Any]) -> str:
    """What the model says: JSON where a format is asked, else the last message again."""
    wanted = body.get("format")
    if wanted == "json":
        return '{"answer": "json"}'
    if isinstance(wanted, dict):
        return orjson.dumps(_instance(wanted)).decode()
    return f"You said: {body['messages'][-1].get('content', '')}"


def _instance(schema: dict[str, Any]) -> Any:
    """The simplest value of a JSON schema."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {key: _instance(part) for key, part in schema.get("properties", {}).items()}
        case "array":
            return [_instance(schema.get("items", {}))]
        case "integer" | "number":
            return 7
        case "boolean":
            return True
        case _:
            return "text"


@dataclass
class OllamaServer:
    """The server; `async with OllamaServer() as server`, then `server.url`."""

    models: dict[str, OllamaModel] = field(
        default_factory=lambda: {"llama3.2:1b": OllamaModel("llama3.2:1b")}
    )
    pullable: dict[str, OllamaModel] = field(default_factory=dict)
    answer: Callable[[dict[str, Any]], str] = answer_of
    token_s: float = 0.0
    port: int = 0
    trouble: Trouble = field(default_factory=Trouble)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Path and body of everything that was asked, oldest first."""
    authorizations: list[str | None] = field(default_factory=list)
    """The `Authorization` of every `/api/version`, oldest first."""
    active: int = 0
    """Answers being made right now."""
    abandoned: int = 0
    """Answers whose asker went away."""
    loaded: dict[str, int] = field(default_factory=dict)
    """The models in memory, with their context."""
    loads: int = 0
    """How many times a model was loaded, or loaded again for another context."""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 2**20)
        app.add_routes(
            [
                web.get("/api/version", self._version),
                web.get("/api/tags", self._tags),
                web.get("/api/ps", self._ps),
                web.post("/api/show", self._show),
                web.post("/api/chat", self._chat),
                web.post("/api/embed", self._embed),
                web.post("/api/pull", self._pull),
                web.delete("/api/delete", self._delete),
            ]
        )
        self._changed = asyncio.Condition()
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
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
        return f"http://127.0.0.1:{self.port}"

    def chats(self) -> list[dict[str, Any]]:
        """The bodies of `/api/chat`, oldest first."""
        return [body for path, body in self.requests if path == "/api/chat"]

    async def wait_until(self, true: Callable[[Self], bool], timeout_s: float = 5.0) -> None:
        """Wait until this is so; looked at whenever an answer begins or ends."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: true(self))

    async def _read(self, request: web.Request) -> dict[str, Any]:
        try:
            body: dict[str, Any] = orjson.loads(await request.read())
        except orjson.JSONDecodeError as error:
            raise _http_error(400, str(error)) from error
        self.requests.append((request.path, body))
        return body

    def _known(self, body: dict[str, Any]) -> OllamaModel:
        name = str(body.get("model") or body.get("name") or "")
        model = self.models.get(name) or self.models.get(f"{name}:latest")
        if model is None:
            raise _http_error(404, f"model '{name}' not found")
        return model

    async def _version(self, request: web.Request) -> web.Response:
        self.authorizations.append(request.headers.get("Authorization"))
        return _json({"version": VERSION})

    async def _tags(self, _: web.Request) -> web.Response:
        return _json({"models": [_tag(model) for model in self.models.values()]})

    async def _ps(self, _: web.Request) -> web.Response:
        running = [
            {**_tag(self.models[name]), "size_vram": 0, "context_length": context}
            for name, context in self.loaded.items()
        ]
        return _json({"models": running})

    async def _show(self, request: web.Request) -> web.Response:
        model = self._known(await self._read(request))
        body: dict[str, Any] = {
            "license": model.licence,
            "details": _tag(model)["details"],
            "model_info": {
                "general.architecture": model.family,
                f"{model.family}.context_length": model.context_tokens,
            },
        }
        if model.capabilities is not None:
            body["capabilities"] = list(model.capabilities)
        return _json(body)

    async def _embed(self, request: web.Request) -> web.Response:
        body = await self._read(request)
        model = self._known(body)
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        vectors = [_vector(text) for text in texts]
        return _json({"model": model.name, "embeddings": vectors, "prompt_eval_count": len(texts)})

    async def _delete(self, request: web.Request) -> web.Response:
        model = self._known(await self._read(request))
        del self.models[model.name]
        return web.Response()

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        return await self._send(request, self._pull_lines(str(body["model"])))

    async def _pull_lines(self, name: str) -> AsyncIterator[dict[str, Any]]:
        model = self.pullable.get(name) or self.models.get(name)
        yield {"status": "pulling manifest"}
        if model is None:
            yield {"error": "pull model manifest: file does not exist"}
            return
        digest = f"sha256:{model.digest}"
        parts = 4
        for part in range(parts + 1):
            if part == self.trouble.cut_pull_after:
                raise ConnectionAbortedError
            await asyncio.sleep(self.token_s)
            yield {
                "status": f"pulling {model.digest[:12]}",
                "digest": digest,
                "total": model.size_bytes,
                "completed": model.size_bytes * part // parts,
            }
        for status in ("verifying sha256 digest", "writing manifest", "success"):
            yield {"status": status}
        self.models[name] = model

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        model = self._known(body)
        if self.trouble.refuse is not None:
            raise _http_error(*self.trouble.refuse)
        self._refuse(model, body)
        await self._count(active=1)
        try:
            return await self._send(request, self._chat_lines(model, body))
        except (asyncio.CancelledError, ConnectionResetError):
            self.abandoned += 1
            raise
        finally:
            await asyncio.shield(self._count(active=-1))

    async def _count(self, active: int) -> None:
        async with self._changed:
            self.active += active
            self._changed.notify_all()

    def _refuse(self, model: OllamaModel, body: dict[str, Any]) -> None:
        """What a real server refuses before it answers; also notes which context is loaded."""
        able = model.capabilities or ("completion", "thinking", "vision")
        if "completion" not in able:
            raise _http_error(400, f'"{model.name}" does not support chat')
        if body.get("think") and "thinking" not in able:
            raise _http_error(400, f'"{model.name}" does not support thinking')
        context = int(body.get("options", {}).get("num_ctx", 4096))
        tokens = tokens_of(body["messages"])
        if tokens > context and body.get("truncate") is False:
            detail = f"request ({tokens} tokens) exceeds the available context size ({context} tokens), try increasing it"
            raise _http_error(
                400, orjson.dumps({"error": {"code": 400, "message": detail}}).decode()
            )
        if self.loaded.get(model.name) != context:
            self.loads += 1
            self.loaded[model.name] = context

    async def _chat_lines(
        self, model: OllamaModel, body: dict[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        options = body.get("options", {})
        pieces, reason = _limited(words(self.answer(body)), options)
        thinks = "thinking" in (model.capabilities or ()) and body.get("think") is not False
        sent = 0
        for message in _messages(["Let", " me", " think."] if thinks else [], pieces):
            if sent == self.trouble.error_after:
                yield {"error": "an error was encountered while running the model: CUDA error"}
                return
            if sent == self.trouble.cut_after:
                raise ConnectionAbortedError
            if sent == self.trouble.end_after:
                return
            if sent == self.trouble.hang_after:
                await asyncio.Event().wait()
            await asyncio.sleep(self.token_s)
            yield {"model": model.name, "message": message, "done": False}
            sent += 1
        yield {
            "model": model.name,
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": reason,
            "prompt_eval_count": tokens_of(body["messages"]),
            "prompt_eval_duration": 20_000_000,
            "eval_count": sent,
            "eval_duration": 100_000_000,
        }

    async def _send(
        self, request: web.Request, lines: AsyncIterator[dict[str, Any]]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        try:
            if self.trouble.garbage:
                await response.write(b"<html>not JSON</html>\n")
            async for line in lines:
                await response.write(orjson.dumps(line) + b"\n")
        except ConnectionAbortedError:
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        return response


def _messages(thoughts: list[str], pieces: list[str]) -> Iterator[dict[str, Any]]:
    for thought in thoughts:
        yield {"role": "assistant", "content": "", "thinking": thought}
    for piece in pieces:
        yield {"role": "assistant", "content": piece}


def _limited(pieces: list[str], options: dict[str, Any]) -> tuple[list[str], str]:
    """The pieces up to `num_predict` and before the first `stop`, and why they end."""
    text = "".join(pieces)
    for stop in options.get("stop", []):
        if stop in text:
            text = text[: text.index(stop)]
    pieces = words(text)
    limit = int(options.get("num_predict", -1))
    return (pieces[:limit], "length") if 0 <= limit < len(pieces) else (pieces, "stop")


def _vector(text: str) -> list[float]:
    """A vector of 8 numbers that equal texts share."""
    return [byte / 255 for byte in hashlib.sha256(text.encode()).digest()[:8]]


def _tag(model: OllamaModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": "2026-01-31T12:00:00Z",
        "size": model.size_bytes,
        "digest": model.digest,
        "details": {
            "format": "gguf",
            "family": model.family,
            "families": [model.family],
            "parameter_size": "1.2B",
            "quantization_level": "Q4_K_M",
        },
    }


def _json(body: Any) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")


def _http_error(status: int, message: str) -> web.HTTPException:
    kinds: dict[int, type[web.HTTPException]] = {
        400: web.HTTPBadRequest,
        401: web.HTTPUnauthorized,
        403: web.HTTPForbidden,
        404: web.HTTPNotFound,
        429: web.HTTPTooManyRequests,
        503: web.HTTPServiceUnavailable,
    }
    kind = kinds.get(status, web.HTTPInternalServerError)
    return kind(text=orjson.dumps({"error": message}).decode(), content_type="application/json")


async def _serve(port: int, token_s: float) -> None:
    async with OllamaServer(port=port, token_s=token_s) as server:
        print(server.url, flush=True)  # noqa: T201
        await asyncio.Event().wait()


def main() -> None:
    """Serve until stopped; prints the address."""
    parser = argparse.ArgumentParser(description="Ollama's protocol without a model, for tests.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token-s", type=float, default=0.02, help="seconds between two words")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.token_s))


if __name__ == "__main__":
    main()
