"""OpenAI's `/chat/completions` as servers of models speak it: what is sent, and what comes back.

Used by every adapter whose server speaks it. `who` names the server in faults, `hint` says what to
do when it does not answer.
"""

import asyncio
import base64
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import aiohttp
import orjson

from mongars.errors import Busy, Fault, Invalid, Missing, NotConfigured, Unavailable
from mongars.llm.adapters.overflow import overflow
from mongars.llm.adapters.sse import Patience, data_lines
from mongars.llm.request import (
    ChatMessage,
    ChatRequest,
    Finished,
    FinishReason,
    ModelEvent,
    Reading,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from mongars.llm.settings import LLMSettings

_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}

_CLOSED_MEANWHILE = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
"""A kept connection that the server closed before it got this request: worth a second try."""


class Completions:
    """One server at `base_url` (`…/v1`), asked over `http`."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        base_url: str,
        settings: LLMSettings,
        *,
        who: str,
        hint: str,
        api_key: str | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._http = http
        self._settings = settings
        self.reading_per_s: float | None = None
        """Prompt tokens a second of the last answer, where the server (llama.cpp) tells."""
        self.writing_per_s: float | None = None
        """The same for the tokens of the answer."""
        self._who = who
        self._hint = hint
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_s)

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[ModelEvent, None]:
        """Events of one answer; closing the generator closes the connection at once."""
        response = await self._open(body)
        settings = self._settings
        patience = Patience(
            response, settings.first_token_timeout_s, settings.between_tokens_timeout_s
        )
        answer = _Answer(self._who)
        try:
            async with aclosing(data_lines(response, patience)) as lines:
                async for line in lines:
                    if answer.ended:
                        continue  # The connection is used again only once it is read to its end.
                    if line == b"[DONE]":
                        yield answer.finished()
                        continue
                    for event in answer.read(line):
                        yield event
            if not answer.ended:
                yield answer.finished()
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            if not answer.ended:
                raise self._broken(error, patience) from error
        finally:
            patience.end()
            self._learn(answer.timings)
            if answer.ended:
                response.release()
            response.close()

    async def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """One question with one answer, at the server's root or below its `/v1`."""
        self._refuse_when_closed()
        try:
            async with (
                asyncio.timeout(self._settings.list_timeout_s),
                self._http.request(
                    method,
                    self.base_url.removesuffix("/v1") + path,
                    data=None if body is None else orjson.dumps(body),
                    headers=self._headers,
                    timeout=self._timeout,
                    allow_redirects=False,
                ) as response,
            ):
                content = await response.read()
        except TimeoutError as error:
            raise self._too_slow() from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise self._translated(error) from error
        if response.status != 200:
            raise self._refused(response, content, body)
        return _object(content, self._who)

    def _refuse_when_closed(self) -> None:
        """The embedded model's session ends with its process."""
        if self._http.closed:
            raise Unavailable(f"{self._who} does not answer. {self._hint}")

    async def _open(self, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        self._refuse_when_closed()
        try:
            async with asyncio.timeout(self._settings.first_token_timeout_s):
                try:
                    response = await self._post(body)
                except _CLOSED_MEANWHILE:
                    response = await self._post(body)
                if response.status == 200:
                    return response
                try:
                    content = await response.read()
                finally:
                    response.close()
        except TimeoutError as error:
            raise self._too_slow() from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise self._translated(error) from error
        raise self._refused(response, content, body)

    async def _post(self, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        try:
            return await self._http.post(
                f"{self.base_url}/chat/completions",
                data=orjson.dumps(body),
                headers=self._headers,
                timeout=self._timeout,
                allow_redirects=False,
            )
        except aiohttp.ClientConnectorError as error:
            raise self._translated(error) from error

    def _learn(self, timings: Mapping[str, Any]) -> None:
        self.reading_per_s = timings.get("prompt_per_second", self.reading_per_s)
        self.writing_per_s = timings.get("predicted_per_second", self.writing_per_s)

    def _too_slow(self) -> Unavailable:
        return Unavailable(f"{self._who} took too long and was given up. {self._hint}")

    def _broken(self, error: Exception, patience: Patience) -> Fault:
        return self._too_slow() if patience.exhausted else self._translated(error)

    def _translated(self, error: Exception) -> Fault:
        if isinstance(error, aiohttp.InvalidURL):
            return NotConfigured(f"MONGARS_LLM__URL is not an address: {self.base_url}")
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ServerTimeoutError):
            return Unavailable(f"{self._who} does not answer. {self._hint}")
        return Unavailable(f"{self._who} broke off: {str(error) or type(error).__name__}.")

    def _refused(
        self, response: aiohttp.ClientResponse, content: bytes, body: Mapping[str, Any] | None
    ) -> Fault:
        """What a refusal means."""
        said, error = _said(content)
        status = response.status
        if fault := overflow(said, error):
            return fault
        if status in (401, 403):
            return NotConfigured(f"{self._who} refuses the key: check MONGARS_LLM__API_KEY.")
        if status == 404:
            model = (body or {}).get("model")
            return Missing(f"{self._who} has no model {model!r}, or MONGARS_LLM__URL is not right.")
        if status == 429:
            return Busy(
                f"{self._who} has too much to do: {said}", retry_after_s=_retry_after_s(response)
            )
        if 300 <= status < 400:
            return NotConfigured(f"{self._who} has moved: check MONGARS_LLM__URL.")
        if status == 408 or status >= 500:
            return Unavailable(
                f"{self._who} answered {status}: {said}", retry_after_s=_retry_after_s(response)
            )
        return Invalid(f"{self._who} refuses this: {said}")


class _Answer:
    """One answer as its pieces come in."""

    def __init__(self, who: str) -> None:
        self.ended = False
        self._who = who
        self._reason: FinishReason | None = None
        self._usage: Mapping[str, Any] = {}
        self.timings: Mapping[str, Any] = {}
        self._pieces = 0
        self._calls: dict[int, list[str]] = {}

    def read(self, line: bytes) -> list[ModelEvent]:
        """What one chunk says."""
        chunk = _object(line, self._who)
        if "error" in chunk:
            raise self._gave_up(line)
        events: list[ModelEvent] = []
        if progress := chunk.get("prompt_progress"):
            events.append(Reading(progress.get("processed", 0), progress.get("total", 0)))
        if usage := chunk.get("usage"):
            self._usage = usage
        if timings := chunk.get("timings"):
            self.timings = timings
        for choice in chunk.get("choices") or ():
            self._delta(choice.get("delta") or {}, events)
            if reason := choice.get("finish_reason"):
                self._reason = _REASONS.get(reason, "stop")
                events.extend(self._tool_calls())
        return events

    def finished(self) -> Finished:
        """The end; raises `Unavailable` when the stream broke before the model was done."""
        if self._reason is None:
            raise Unavailable(f"{self._who} broke off in the middle of the answer.")
        self.ended = True
        details = self._usage.get("prompt_tokens_details") or {}
        cached = details.get("cached_tokens")
        return Finished(
            self._reason,
            Usage(
                self._usage.get("prompt_tokens") or 0,
                self._usage.get("completion_tokens") or self._pieces,
                self.timings.get("cache_n") if cached is None else cached,
            ),
        )

    def _delta(self, delta: Mapping[str, Any], events: list[ModelEvent]) -> None:
        if text := delta.get("content"):
            self._pieces += 1
            events.append(Text(text))
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            self._pieces += 1
            events.append(Thinking(thought))
        for call in delta.get("tool_calls") or ():
            known = self._calls.setdefault(call.get("index", 0), ["", "", ""])
            function = call.get("function") or {}
            known[0] += call.get("id") or ""
            known[1] += function.get("name") or ""
            known[2] += function.get("arguments") or ""

    def _tool_calls(self) -> list[ModelEvent]:
        calls: list[ModelEvent] = [ToolCall(*self._calls[at]) for at in sorted(self._calls)]
        self._calls.clear()
        return calls

    def _gave_up(self, line: bytes) -> Fault:
        """An error in the middle of a stream whose status was 200."""
        said, error = _said(line)
        return overflow(said, error) or Unavailable(f"{self._who} gave up: {said}")


def body_of(request: ChatRequest, model: str | None) -> dict[str, Any]:
    """The request as these servers take it."""
    told: dict[str, Any] = {
        "model": model,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
        "seed": request.seed,
        "stop": list(request.stop) or None,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "response_format": _format(request),
    }
    return {
        "messages": [message_body(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        **{name: value for name, value in told.items() if value is not None},
        **request.extra,
    }


def message_body(message: ChatMessage) -> dict[str, Any]:
    """A message as these servers take it; images as `data:` addresses."""
    if not message.images:
        return {"role": message.role, "content": message.text}
    parts: list[dict[str, Any]] = [{"type": "text", "text": message.text}] if message.text else []
    for image in message.images:
        data = base64.b64encode(image.data).decode()
        url = f"data:{image.media_type};base64,{data}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return {"role": message.role, "content": parts}


def _format(request: ChatRequest) -> dict[str, Any] | None:
    if request.json_schema is not None:
        schema = {"name": "answer", "schema": dict(request.json_schema), "strict": True}
        return {"type": "json_schema", "json_schema": schema}
    return {"type": "json_object"} if request.json_object else None


def _object(content: bytes, who: str) -> dict[str, Any]:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise Unavailable(f"{who} does not speak OpenAI's language (JSON).") from error
    if not isinstance(value, dict):
        raise Unavailable(f"{who} does not speak OpenAI's language (objects).")
    return value


def _said(content: bytes) -> tuple[str, Mapping[str, Any]]:
    """The message of an error in any of the shapes seen, and its object."""
    try:
        told: Any = orjson.loads(content)
    except orjson.JSONDecodeError:
        return content[:300].decode(errors="replace"), {}
    error = told.get("error", told) if isinstance(told, dict) else told
    if not isinstance(error, dict):
        return str(error)[:300], {}
    message = error.get("message") or error.get("detail") or error
    return str(message)[:300], error


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None
