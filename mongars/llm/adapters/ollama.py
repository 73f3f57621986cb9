"""Ollama, over its own HTTP protocol (docs/api.md of the Ollama project).

`/api/chat` streams one JSON object a line. A prompt that does not fit is cut silently by Ollama
unless `truncate` is false, and the context is 4,096 tokens or so unless `num_ctx` is given; both
are always sent. Changing `num_ctx` loads the model again, so it only takes few values and does not
shrink while the model stays in memory.
"""

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
import orjson

from mongars.errors import Busy, Fault, Invalid, Missing, NotConfigured, Unavailable
from mongars.llm.adapters.overflow import overflow, too_long
from mongars.llm.request import (
    Capabilities,
    ChatMessage,
    ChatRequest,
    Finished,
    FinishReason,
    ModelCard,
    ModelEvent,
    Text,
    Thinking,
    Usage,
)
from mongars.llm.settings import LLMSettings

DEFAULT_URL = "http://127.0.0.1:11434"
"""Where `ollama serve` listens."""

SMALLEST_CONTEXT = 4096
"""Tokens; `num_ctx` is never less, so that short conversations all share one loaded model."""

_ANSWER_TOKENS = 1024
"""Room for the answer where the request names no limit."""

_IMAGE_TOKENS = 1024
_MESSAGE_TOKENS = 8
_BYTES_PER_TOKEN = 3.0
_LONGEST_LINE_BYTES = 16 * 2**20
_SHOW_TOGETHER = 4
_PULL_SILENCE_S = 900.0
_OPTIONS = {"top_k", "min_p", "typical_p", "repeat_penalty", "repeat_last_n"}
_THINK = {"none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high"}


@dataclass(frozen=True)
class _About:
    """What `/api/show` tells about a model."""

    context_tokens: int | None
    able: frozenset[str] | None
    """Its capabilities, `None` where the server is too old to tell."""

    def can(self, what: str) -> bool | None:
        """Whether the model can do this; `None`: not told."""
        return None if self.able is None else what in self.able


@dataclass(frozen=True)
class _Window:
    """The context a model was last loaded with, and until when it stays so."""

    tokens: int
    until: float


class _OverflowError(Exception):
    """The prompt does not fit into the context that was asked for."""

    def __init__(self, prompt_tokens: int) -> None:
        super().__init__(prompt_tokens)
        self.prompt_tokens = prompt_tokens


class Ollama:
    """One Ollama server."""

    name = "ollama"

    def __init__(self, url: str, settings: LLMSettings, http: aiohttp.ClientSession) -> None:
        self.url = url.rstrip("/")
        self.seats = settings.seats or 1
        self._settings = settings
        self._http = http
        self._headers = {"Content-Type": "application/json"}
        if settings.api_key is not None and settings.backend == "ollama":
            self._headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
        self._shown: dict[str, _About] = {}
        self._speeds: dict[str, tuple[float | None, float | None]] = {}
        self._windows: dict[str, _Window] = {}

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ModelEvent, None]:
        """Answer; closing the generator closes the connection, upon which Ollama stops."""
        model = self._model(request)
        about = await self._about(model)
        _refuse_what_it_cannot(model, request, about)
        window = self._window(model, tokens_wanted(request), about)
        body = _body(request, model, about)
        corrected = False
        while True:
            try:
                async with aclosing(self._attempt(body, model, window)) as events:
                    async for event in events:
                        yield event
                return
            except _OverflowError as over:
                if corrected:
                    raise too_long(over.prompt_tokens, window) from over
                window = self._larger(model, request, about, over.prompt_tokens)
                corrected = True

    async def models(self) -> Sequence[ModelCard]:
        """What `/api/tags` lists, with the context and kind that `/api/show` tells."""
        listed = (await self._ask("GET", "/api/tags")).get("models") or []
        turn = asyncio.Semaphore(_SHOW_TOGETHER)

        async def card(tag: Mapping[str, Any]) -> ModelCard:
            name, digest = str(tag.get("name")), tag.get("digest")
            async with turn:
                about = await self._about_or_nothing(name, digest)
            return ModelCard(
                name=name,
                backend=self.name,
                digest=digest,
                size_bytes=tag.get("size"),
                context_tokens=about.context_tokens,
                chat=about.can("completion") is not False,
            )

        return await asyncio.gather(*(card(tag) for tag in listed))

    async def probe(self, model: str) -> Capabilities:
        """What `/api/show` tells now; every model that chats takes a JSON schema in Ollama.

        Speeds are those of its last answer here.
        """
        self._shown.pop(model, None)
        about = await self._about(model)
        reading_per_s, writing_per_s = self._speeds.get(model, (None, None))
        return Capabilities(
            context_tokens=about.context_tokens,
            tools=about.can("tools"),
            json_schema=about.can("completion"),
            vision=about.can("vision"),
            thinking=about.can("thinking"),
            embeddings=about.can("embedding"),
            reading_per_s=reading_per_s,
            writing_per_s=writing_per_s,
        )

    async def count(self, messages: Sequence[ChatMessage], model: str) -> int | None:
        """Ollama has no way to count tokens."""
        return None

    async def version(self) -> str:
        """The server's version; the cheapest way to know that it lives."""
        return str((await self._ask("GET", "/api/version")).get("version", "unknown"))

    async def pull(
        self, model: str, progress: Callable[[int, int | None], Awaitable[None]]
    ) -> ModelCard:
        """Have Ollama download a model; tells bytes done and in all. A stopped pull can go on."""
        layers: dict[str, tuple[int, int]] = {}
        lines = self._lines(
            "/api/pull", {"model": model, "stream": True}, _PULL_SILENCE_S, _PULL_SILENCE_S
        )
        status = ""
        async with aclosing(lines):
            async for line in lines:
                _raise_error_line(line, model)
                status = str(line.get("status", ""))
                if "total" in line:
                    layers[str(line.get("digest"))] = (line.get("completed", 0), line["total"])
                    done, total = (sum(numbers) for numbers in zip(*layers.values(), strict=True))
                    await progress(done, total)
        if status != "success":
            raise Unavailable(
                f"Ollama broke off the download of {model}. The same command goes on from there."
            )
        return await self._card(model)

    async def remove(self, model: str) -> None:
        """Delete a model; raises `Missing`."""
        await self._ask("DELETE", "/api/delete", {"model": model}, model)
        self._shown.pop(model, None)

    async def _card(self, model: str) -> ModelCard:
        for card in await self.models():
            if card.name in (model, f"{model}:latest"):
                return card
        raise Unavailable(f"Ollama says it downloaded {model}, but does not list it.")

    def _model(self, request: ChatRequest) -> str:
        model = request.model or self._settings.model
        if not model:
            raise Missing("No model of Ollama is chosen. `mongars models use ollama/NAME` does it.")
        return model

    async def _about(self, model: str) -> _About:
        known = self._shown.get(model)
        if known is None:
            shown = await self._ask("POST", "/api/show", {"model": model}, model)
            known = self._shown[model] = _read_about(shown)
        return known

    async def _about_or_nothing(self, model: str, digest: Any) -> _About:
        """For lists: one damaged model does not hide the others. Read again when it changed."""
        key = f"{model}@{digest}"
        try:
            if key not in self._shown:
                self._shown.pop(model, None)
                self._shown[key] = await self._about(model)
            return self._shown[key]
        except (Missing, Invalid):
            return _About(None, None)

    def _window(self, model: str, wanted: int, about: _About) -> int:
        """`num_ctx`: what this needs, in powers of two, bounded by the model; kept while loaded."""
        tokens = SMALLEST_CONTEXT
        while tokens < wanted:
            tokens *= 2
        before = self._windows.get(model)
        if before is not None and before.until > time.monotonic():
            tokens = max(tokens, before.tokens)
        if about.context_tokens is not None:
            tokens = min(tokens, about.context_tokens)
        until = time.monotonic() + self._settings.keep_alive_s
        self._windows[model] = _Window(tokens, until)
        return tokens

    def _larger(self, model: str, request: ChatRequest, about: _About, prompt_tokens: int) -> int:
        """The window once Ollama told how long the prompt really is; raises when none is enough."""
        limit = about.context_tokens
        if limit is not None and prompt_tokens >= limit:
            raise too_long(prompt_tokens, limit)
        return self._window(model, prompt_tokens + _room(request), about)

    async def _attempt(
        self, body: dict[str, Any], model: str, window: int
    ) -> AsyncGenerator[ModelEvent, None]:
        body = {
            **body,
            "options": {**body["options"], "num_ctx": window},
            "keep_alive": int(self._settings.keep_alive_s),
        }
        lines = self._lines(
            "/api/chat",
            body,
            self._settings.first_token_timeout_s,
            self._settings.between_tokens_timeout_s,
        )
        async with aclosing(lines):
            async for line in lines:
                _raise_error_line(line, model)
                for event in _events(line):
                    yield event
                if line.get("done"):
                    self._speeds[model] = (_speed(line, "prompt_eval"), _speed(line, "eval"))
                    return
        raise Unavailable("Ollama broke off in the middle of the answer.")

    async def _lines(
        self, path: str, body: Mapping[str, Any], first_s: float, next_s: float
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The JSON objects of a streamed answer, each within its time."""
        response = None
        try:
            async with asyncio.timeout(first_s):
                response = await self._post(path, body)
                waiting = b""
                chunk = await response.content.readany()
            while chunk:
                *whole, waiting = (waiting + chunk).split(b"\n")
                if len(waiting) > _LONGEST_LINE_BYTES:
                    raise Unavailable("Ollama sends a line without end.")
                for line in whole:
                    if line.strip():
                        yield _object(line)
                async with asyncio.timeout(next_s):
                    chunk = await response.content.readany()
            if waiting.strip():
                yield _object(waiting)
        except TimeoutError as error:
            raise Unavailable("Ollama took too long and was given up.") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise self._translated(error) from error
        finally:
            if response is not None:
                response.close()

    async def _post(self, path: str, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        try:
            response = await self._send(path, body)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # A kept connection that Ollama closed before it got this request.
            response = await self._send(path, body)
        if response.status >= 400:
            try:
                raise _fault(response.status, await response.read(), str(body.get("model")))
            finally:
                response.close()
        return response

    async def _send(self, path: str, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        return await self._http.post(
            f"{self.url}{path}",
            data=orjson.dumps(body),
            headers=self._headers,
            timeout=self._timeout(),
        )

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        model: str = "",
    ) -> dict[str, Any]:
        """One question with one answer."""
        try:
            async with (
                asyncio.timeout(self._settings.list_timeout_s),
                self._http.request(
                    method,
                    f"{self.url}{path}",
                    data=None if body is None else orjson.dumps(body),
                    headers=self._headers,
                    timeout=self._timeout(),
                ) as response,
            ):
                content = await response.read()
        except TimeoutError as error:
            raise Unavailable(f"Ollama at {self.url} does not answer in time.") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise self._translated(error) from error
        if response.status >= 400:
            raise _fault(response.status, content, model)
        return _object(content) if content.strip() else {}

    def _timeout(self) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=None, sock_connect=self._settings.connect_timeout_s)

    def _translated(self, error: Exception) -> Fault:
        if isinstance(error, aiohttp.ClientConnectorError):
            return Unavailable(
                f"Ollama does not answer at {self.url}. Start it with `ollama serve`, or set "
                "MONGARS_LLM__URL."
            )
        if isinstance(error, aiohttp.InvalidURL):
            return Unavailable(f"MONGARS_LLM__URL is not an address: {self.url}")
        return Unavailable(f"The connection to Ollama broke: {str(error) or type(error).__name__}.")


def tokens_wanted(request: ChatRequest) -> int:
    """A cautious guess at the tokens of prompt and answer together.

    Latin text has about four bytes a token, other scripts two to three; counted with three, so that
    the guess is more often too large (costs memory) than too small (costs one refused request).
    """
    written = sum(len(message.text.encode(errors="replace")) for message in request.messages)
    images = sum(len(message.images) for message in request.messages)
    around = _MESSAGE_TOKENS * len(request.messages)
    return int(written / _BYTES_PER_TOKEN) + around + images * _IMAGE_TOKENS + _room(request)


def _room(request: ChatRequest) -> int:
    return _ANSWER_TOKENS if request.max_tokens is None else request.max_tokens


def _refuse_what_it_cannot(model: str, request: ChatRequest, about: _About) -> None:
    if about.can("completion") is False:
        raise Invalid(f"ollama/{model} turns texts into vectors and cannot chat.")
    has_images = any(message.images for message in request.messages)
    if has_images and about.can("vision") is False:
        raise Invalid(
            f"ollama/{model} cannot see images. Choose a model that can, or send text alone.",
            slug="model-cannot-see",
        )
    unknown = sorted(set(request.extra) - _OPTIONS - {"think", "reasoning_effort"})
    if unknown:
        raise Invalid(f"Ollama takes no parameter {', '.join(unknown)}.")


def _body(request: ChatRequest, model: str, about: _About) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "truncate": False,
        "shift": False,
        "options": _options(request),
    }
    if request.json_schema is not None:
        body["format"] = dict(request.json_schema)
    elif request.json_object:
        body["format"] = "json"
    think = _think(request, model, about)
    if think is not None:
        body["think"] = think
    return body


def _message(message: ChatMessage) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.images:
        body["images"] = [base64.b64encode(image.data).decode() for image in message.images]
    return body


def _options(request: ChatRequest) -> dict[str, Any]:
    told = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stop": list(request.stop) or None,
        "num_predict": request.max_tokens,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        **{name: request.extra[name] for name in _OPTIONS & set(request.extra)},
    }
    return {name: value for name, value in told.items() if value is not None}


def _think(request: ChatRequest, model: str, about: _About) -> bool | str | None:
    """`think`: as asked; else on for models that think, so that it comes in a field of its own."""
    wanted: Any = request.extra.get("think")
    effort = request.extra.get("reasoning_effort")
    if wanted is None and effort is not None:
        if effort not in _THINK:
            raise Invalid(f"reasoning_effort is one of {', '.join(_THINK)}.")
        wanted = _THINK[effort]
    thinks = about.can("thinking")
    if wanted is None:
        return True if thinks else None
    if wanted and thinks is False:
        raise Invalid(f"ollama/{model} is not a thinking model.")
    return cast("bool | str", wanted) if thinks is not False else None


def _events(line: Mapping[str, Any]) -> list[ModelEvent]:
    message = line.get("message") or {}
    events: list[ModelEvent] = []
    if message.get("thinking"):
        events.append(Thinking(message["thinking"]))
    if message.get("content"):
        events.append(Text(message["content"]))
    if line.get("done"):
        reason: FinishReason = "length" if line.get("done_reason") == "length" else "stop"
        usage = Usage(line.get("prompt_eval_count") or 0, line.get("eval_count") or 0)
        events.append(Finished(reason, usage))
    return events


def _speed(line: Mapping[str, Any], what: str) -> float | None:
    """Tokens a second of reading (`prompt_eval`) or writing (`eval`); durations are nanoseconds."""
    count, duration_ns = line.get(f"{what}_count"), line.get(f"{what}_duration")
    return count / duration_ns * 1e9 if count and duration_ns else None


def _read_about(shown: Mapping[str, Any]) -> _About:
    info = shown.get("model_info") or {}
    family = info.get("general.architecture")
    context = info.get(f"{family}.context_length")
    able = shown.get("capabilities")
    return _About(
        context_tokens=context if isinstance(context, int) and context > 0 else None,
        able=None if able is None else frozenset(able),
    )


def _object(line: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Unavailable("What answers as Ollama does not speak its language (JSON).") from error
    if not isinstance(content, dict):
        raise Unavailable("What answers as Ollama does not speak its language (objects).")
    return content


def _raise_error_line(line: Mapping[str, Any], model: str) -> None:
    """A stream may end in `{"error": …}` with status 200."""
    message = line.get("error")
    if message is None:
        return
    text = str(message)
    if "file does not exist" in text or "not found" in text:
        raise Missing(f"Ollama knows no model {model!r}. Check the name in its library.")
    raise Unavailable(f"Ollama gave up: {text[:300]}")


def _fault(status: int, content: bytes, model: str) -> Exception:
    """What a refusal means."""
    try:
        message = str(orjson.loads(content)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message = content[:300].decode(errors="replace")
    if status == 404:
        return Missing(
            f"Ollama has no model {model!r}. `mongars models pull ollama/{model}` downloads it."
        )
    if status in (401, 403):
        return NotConfigured("Ollama asks for a key: set MONGARS_LLM__API_KEY.")
    if status in (429, 503):
        return Busy(f"Ollama has too much to do: {message[:300]}")
    if status in (400, 422):
        fault = overflow(message, {})
        if fault is not None and "prompt_tokens" in fault.extra:
            return _OverflowError(fault.extra["prompt_tokens"])
        return fault or Invalid(f"Ollama refuses this: {message[:300]}")
    return Unavailable(f"Ollama answered {status}: {message[:300]}")
