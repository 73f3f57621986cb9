"""Turns: looked at, followed, stopped; answers made again, gone on with, asked for otherwise."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from mongars.api import sse
from mongars.api import turn_shapes as shapes
from mongars.api.dependencies import BodyDep
from mongars.api.routes.chat import EVENTS, IdempotencyKey, answered, key_of, seen
from mongars.api.security import Chatter, Reader
from mongars.api.strict import StrictRoute
from mongars.cortex import Said

router = APIRouter(tags=["chat"], route_class=StrictRoute)


@router.get("/turns/{turn_id}")
async def get_turn(turn_id: str, body: BodyDep, caller: Reader) -> shapes.TurnTold:
    """One turn."""
    return shapes.TurnTold.of(await body.cortex.turn(caller.id, turn_id))


@router.get("/turns/{turn_id}/events", response_class=Response, responses=sse.EVENTS)
async def follow_turn(
    turn_id: str,
    body: BodyDep,
    caller: Reader,
    after: Annotated[int | None, Query(ge=0, le=10**9)] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The events of a turn behind `Last-Event-ID` (or `after`), from disk and then as they come."""
    behind = seen(last_event_id, after)
    await body.cortex.turn(caller.id, turn_id)
    return sse.stream(sse.frames(body.cortex.listen(caller.id, turn_id, behind)))


@router.post("/turns/{turn_id}/stop")
async def stop_turn(turn_id: str, body: BodyDep, caller: Chatter) -> shapes.TurnTold:
    """End an answer with what it has said so far; one that is over stays as it is."""
    return shapes.TurnTold.of(await body.cortex.stop(caller.id, turn_id))


@router.post("/messages/{message_id}/regenerate", response_model=shapes.ChatTold, responses=EVENTS)
async def regenerate(
    request: Request,
    message_id: str,
    body: BodyDep,
    caller: Chatter,
    asked: shapes.AgainAsked | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Another answer beside this one. Answers as `/chat` does."""
    turn = await body.cortex.regenerate(
        caller.id,
        message_id,
        options=shapes.options(asked.options if asked else None),
        client_id=asked.client_id if asked else None,
        key=key_of(request, asked, idempotency_key),
    )
    return await answered(request, body, turn)


@router.post("/messages/{message_id}/continue", response_model=shapes.ChatTold, responses=EVENTS)
async def go_on(
    request: Request,
    message_id: str,
    body: BodyDep,
    caller: Chatter,
    asked: shapes.AgainAsked | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """The same answer, gone on with where it ends, in a message beside it. Answers as `/chat`."""
    turn = await body.cortex.go_on(
        caller.id,
        message_id,
        options=shapes.options(asked.options if asked else None),
        client_id=asked.client_id if asked else None,
        key=key_of(request, asked, idempotency_key),
    )
    return await answered(request, body, turn)


@router.patch("/messages/{message_id}", response_model=shapes.ChatTold, responses=EVENTS)
async def edit_message(
    request: Request,
    message_id: str,
    asked: shapes.EditAsked,
    body: BodyDep,
    caller: Chatter,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Say it otherwise: a branch beside the old one, and an answer to it. Answers as `/chat`."""
    turn = await body.cortex.edit(
        caller.id,
        message_id,
        Said(asked.text),
        options=shapes.options(asked.options),
        client_id=asked.client_id,
        key=key_of(request, asked, idempotency_key),
    )
    return await answered(request, body, turn)
