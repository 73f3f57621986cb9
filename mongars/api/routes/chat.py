"""Talking: words in, an answer out, whole or as events."""

import contextlib
import hashlib
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel

from mongars.api import sse
from mongars.api import turn_shapes as shapes
from mongars.api.dependencies import BodyDep
from mongars.api.security import Chatter
from mongars.api.strict import StrictRoute
from mongars.body import Body
from mongars.cortex import Key, Turn
from mongars.errors import URN, Fault, FieldFault, Invalid, Unavailable

router = APIRouter(tags=["chat"], route_class=StrictRoute)

EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"model": shapes.ChatTold, "content": {"text/event-stream": {}}}
}

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="For 24 hours, the same key with the same body is the same turn.",
    ),
]


@router.post("/chat", response_model=shapes.ChatTold, responses=EVENTS)
async def chat(
    request: Request,
    asked: shapes.ChatAsked,
    body: BodyDep,
    caller: Chatter,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Say something. The answer comes whole, or with `Accept: text/event-stream` as events.

    Leaving does not stop it: `GET /turns/{id}/events` goes on from any event.
    """
    turn = await body.cortex.say(
        caller.id,
        shapes.said(asked),
        conversation_id=asked.conversation_id,
        options=shapes.options(asked.options),
        client_id=asked.client_id,
        key=key_of(request, asked, idempotency_key),
    )
    return await answered(request, body, turn)


def key_of(request: Request, asked: BaseModel | None, key: str | None) -> Key | None:
    """The key, with what came with it: path and body."""
    return key_for(request.url.path, asked, key)


def key_for(path: str, asked: BaseModel | None, key: str | None) -> Key | None:
    """The key of what came to this path, or is as if it had come there."""
    if key is None:
        return None
    said = b"" if asked is None else orjson.dumps(asked.model_dump(), option=orjson.OPT_SORT_KEYS)
    return Key(key, hashlib.sha256(path.encode() + b"\n" + said).hexdigest())


async def answered(request: Request, body: Body, turn: Turn) -> Response:
    """The answer to whoever began this turn: its events, or its end."""
    if "text/event-stream" in request.headers.get("accept", ""):
        return sse.stream(sse.frames(body.cortex.listen(turn.owner_id, turn.id)))
    async with contextlib.aclosing(body.cortex.listen(turn.owner_id, turn.id)) as events:
        async for event in events:
            if event.type == "done":
                return _whole(turn, event.facts())
            if event.type == "failed":
                raise failure(turn, event.facts()["problem"])
    raise Unavailable(
        "monGARS is being stopped; the answer goes on when it runs again.",
        slug="stopping",
        retry_after_s=5,
        extra={"turn_id": turn.id, "message_id": turn.message_id},
    )


def _whole(turn: Turn, done: dict[str, Any]) -> Response:
    told = {
        "turn_id": turn.id,
        "conversation_id": turn.conversation_id,
        "message": done["message"],
        "model": done["message"]["model"],
        **{name: done[name] for name in ("finish_reason", "usage", "timing", "memories")},
        "sources": done["sources"],
    }
    return Response(orjson.dumps(told), media_type="application/json")


def failure(turn: Turn, problem: dict[str, Any]) -> Fault:
    """A failed turn as a fault: 503 with its problem; the message is kept."""
    slug = str(problem["type"]).removeprefix(URN)
    extra = {"turn_id": turn.id, "message_id": turn.message_id}
    if slug == "too-long-for-model":
        return Invalid(problem["detail"], slug=slug, extra=extra)
    return Unavailable(problem["detail"], slug=slug, extra=extra)


def seen(last_event_id: str | None, after: int | None) -> int:
    """The last event that a listener has. Raises `Invalid`."""
    if last_event_id is None:
        return after or 0
    if not last_event_id.isdecimal() or len(last_event_id) > 9:
        fault = FieldFault(("header", "Last-Event-ID"), "must be the id of an event")
        raise Invalid("Some fields are not as they must be.", errors=[fault])
    return int(last_event_id)
