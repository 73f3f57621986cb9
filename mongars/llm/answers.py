"""Answers that need not be made twice: what was asked at temperature 0, of the same weights."""

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from mongars.cache import TieredCache
from mongars.llm.request import ChatRequest, Finished, ModelEvent, Text, Thinking, Usage

NAMESPACE = "answers"
_TTL_S = 7 * 86_400.0


class Answers:
    """The cache of answers; without a cache it knows none. Every entry belongs to its asker."""

    def __init__(self, cache: TieredCache | None) -> None:
        self._cache = cache

    def takes(self, request: ChatRequest) -> bool:
        """Whether the same request has the same answer."""
        return (
            self._cache is not None
            and request.temperature == 0
            and not request.extra
            and not any(message.images for message in request.messages)
        )

    async def find(self, request: ChatRequest, digest: str) -> Sequence[ModelEvent] | None:
        """The events of the answer, when it was made before."""
        assert self._cache is not None
        found = await self._cache.get(NAMESPACE, _key(request, digest), owner_id=request.owner_id)
        return None if found is None else _read(orjson.loads(found))

    async def keep(self, request: ChatRequest, digest: str, events: Sequence[ModelEvent]) -> None:
        """Remember an answer that came to an end."""
        assert self._cache is not None
        await self._cache.put(
            NAMESPACE,
            _key(request, digest),
            orjson.dumps(_written(events)),
            owner_id=request.owner_id,
            ttl_s=_TTL_S,
        )


def _key(request: ChatRequest, digest: str) -> str:
    asked = [
        digest,
        [[message.role, message.text] for message in request.messages],
        request.top_p,
        request.max_tokens,
        request.seed,
        request.stop,
        request.presence_penalty,
        request.frequency_penalty,
        None if request.json_schema is None else dict(request.json_schema),
        request.json_object,
    ]
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _written(events: Sequence[ModelEvent]) -> list[Any]:
    """Pieces as they came, so that a replay is streamed as the answer was."""
    told: list[Any] = []
    for event in events:
        match event:
            case Text(text):
                told.append(["text", text])
            case Thinking(text):
                told.append(["thinking", text])
            case Finished(reason, usage):
                told.append([reason, usage.prompt_tokens, usage.completion_tokens])
            case _:
                pass
    return told


def _read(told: list[Any]) -> list[ModelEvent]:
    events: list[ModelEvent] = []
    for kind, *facts in told:
        match kind:
            case "text":
                events.append(Text(*facts))
            case "thinking":
                events.append(Thinking(*facts))
            case _:
                events.append(Finished(kind, Usage(*facts)))
    return events
