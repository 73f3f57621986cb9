"""The socket: say, stop, resume and watch, over one connection of a person."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Annotated, Any, Literal

import orjson
import structlog
from fastapi import APIRouter, WebSocket
from pydantic import Field, TypeAdapter, ValidationError
from starlette.websockets import WebSocketDisconnect

from mongars.api import turn_shapes as shapes
from mongars.api.dependencies import body_of
from mongars.api.problems import problem
from mongars.api.routes.chat import key_for
from mongars.api.shapes import Asked, Id
from mongars.api.strict import StrictRoute, read_json
from mongars.auth import Caller
from mongars.body import Body
from mongars.bouche import Block, BlockRenderer
from mongars.cortex import Event
from mongars.errors import Fault, FieldFault, Forbidden, Invalid, Malformed, Unproven
from mongars.hippocampus import person_topic

log = structlog.get_logger()

router = APIRouter(tags=["chat"], route_class=StrictRoute)

BAD_TICKET = 4401
CHAT = "/api/v1/chat"
MOST_FOLLOWED = 64
"""Turns that one socket follows at the same time."""


class SayFrame(shapes.ChatAsked):
    """Say something."""

    type: Literal["say"]
    render: Literal["html"] | None = None
    idempotency_key: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """As the header of `POST /chat`, and shared with it: said again after a cut, it is one turn."""


class StopFrame(Asked):
    """Stop an answer."""

    type: Literal["stop"]
    turn_id: Id


class ResumeFrame(Asked):
    """Follow a turn from behind an event."""

    type: Literal["resume"]
    turn_id: Id
    after: Annotated[int, Field(ge=0, le=10**9)] = 0
    render: Literal["html"] | None = None


class WatchFrame(Asked):
    """Follow what begins elsewhere, in one conversation or in all."""

    type: Literal["watch"]
    conversation_id: Id | None = None
    render: Literal["html"] | None = None


Frame = Annotated[SayFrame | StopFrame | ResumeFrame | WatchFrame, Field(discriminator="type")]
_FRAME: TypeAdapter[SayFrame | StopFrame | ResumeFrame | WatchFrame] = TypeAdapter(Frame)


@router.websocket("/ws/chat")
async def chat_socket(socket: WebSocket, ticket: str = "") -> None:
    """A connection of the person who got this ticket."""
    body = await body_of(socket)
    await socket.accept()
    try:
        caller = await body.auth.redeem_ticket(ticket)
    except Fault as fault:
        code = BAD_TICKET if isinstance(fault, Unproven) else 1013
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close(code, fault.problem)
        return
    structlog.contextvars.bind_contextvars(person=caller.id)
    async with asyncio.TaskGroup() as tasks:
        connection = Connection(socket, body, caller, tasks)
        watching = tasks.create_task(connection.watch_person())
        try:
            await connection.receive()
        finally:
            watching.cancel()
            connection.leave()


class Connection:
    """One open socket."""

    def __init__(
        self, socket: WebSocket, body: Body, caller: Caller, tasks: asyncio.TaskGroup
    ) -> None:
        self._socket = socket
        self._body = body
        self._caller = caller
        self._tasks = tasks
        self._followed: dict[str, asyncio.Task[None]] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._watched: WatchFrame | None = None

    async def receive(self) -> None:
        """Read frames until the other side leaves; a wrong one is answered and changes nothing."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            client_id: str | None = None
            try:
                value = _read(message)
                given = value.get("client_id") if isinstance(value, dict) else None
                client_id = given if isinstance(given, str) else None
                await self._obey(_frame(value))
            except Fault as fault:
                await self._tell_fault(fault, client_id)
            except (WebSocketDisconnect, RuntimeError):  # it left while we answered
                return

    def leave(self) -> None:
        """End everything that was done for this socket; the turns go on."""
        for task in (*self._followed.values(), *self._working):
            task.cancel()

    async def _obey(self, frame: Asked) -> None:
        match frame:
            case SayFrame():
                self._may("chat")
                await self._say(frame)
            case StopFrame():
                self._may("chat")
                await self._body.cortex.turn(self._caller.id, frame.turn_id)
                self._work(self._stop(frame.turn_id))
            case ResumeFrame():
                self._may("read")
                await self._body.cortex.turn(self._caller.id, frame.turn_id)
                self._follow(frame.turn_id, frame.after, frame.render, again=True)
            case WatchFrame():
                self._may("read")
                self._watched = frame
                for turn_id, conversation_id in await self._body.cortex.active_turns(
                    self._caller.id
                ):
                    self._follow_watched(turn_id, conversation_id)

    def _may(self, scope: Literal["chat", "read"]) -> None:
        if scope not in self._caller.scopes:
            raise Forbidden(f"This needs the scope `{scope}`.", slug="scope-missing")

    async def _say(self, frame: SayFrame) -> None:
        turn = await self._body.cortex.say(
            self._caller.id,
            shapes.said(frame),
            conversation_id=frame.conversation_id,
            options=shapes.options(frame.options),
            client_id=frame.client_id,
            key=key_for(CHAT, _as_posted(frame), frame.idempotency_key),
        )
        render = frame.render or (self._watched.render if self._watched else None)
        self._follow(turn.id, 0, render)

    async def _stop(self, turn_id: str) -> None:
        try:
            await self._body.cortex.stop(self._caller.id, turn_id)
        except Fault as fault:
            await self._tell_fault(fault, None)

    def _work(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    def _follow(self, turn_id: str, after: int, render: str | None, *, again: bool = False) -> None:
        """Send the events of this turn; a turn is followed once."""
        if (task := self._followed.get(turn_id)) is not None:
            if not again:
                return
            task.cancel()
        elif len(self._followed) >= MOST_FOLLOWED:
            raise Invalid(
                f"A socket follows at most {MOST_FOLLOWED} answers at a time.",
                slug="too-many-turns",
            )
        task = self._tasks.create_task(self._pump(turn_id, after, render))
        self._followed[turn_id] = task
        task.add_done_callback(lambda ended: self._forget(turn_id, ended))

    def _forget(self, turn_id: str, task: asyncio.Task[None]) -> None:
        if self._followed.get(turn_id) is task:
            del self._followed[turn_id]

    async def _pump(self, turn_id: str, after: int, render: str | None) -> None:
        """Send events as fast as the other side reads; what it misses meanwhile is on disk."""
        rendering = Rendering(turn_id) if render else None
        begin = 0 if rendering else after  # blocks are made of the whole text
        events = self._body.cortex.listen(self._caller.id, turn_id, begin)
        try:
            async with contextlib.aclosing(events):
                async for event in events:
                    blocks = rendering.blocks(event) if rendering else []
                    told = [event.json.decode()] if event.seq > after else []
                    # The last blocks come before the end: who hears it has the whole answer.
                    for text in [*blocks, *told] if event.ends else [*told, *blocks]:
                        await self._socket.send_text(text)
        except Fault as fault:
            await self._tell_fault(fault, None)
        except (WebSocketDisconnect, RuntimeError):  # it left
            return

    async def watch_person(self) -> None:
        """Tell what begins and changes elsewhere, once that was asked for."""
        async with self._body.bus.subscribe(person_topic(self._caller.id)) as news:
            while True:
                heard = await news.get()
                if self._watched is None or not heard:
                    continue
                told = orjson.loads(heard)
                if turn := told.get("turn"):
                    self._follow_watched(turn["turn_id"], turn["conversation_id"])
                if changed := told.get("changed"):
                    frame = {"type": "changed", **changed}
                    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                        await self._socket.send_text(orjson.dumps(frame).decode())

    def _follow_watched(self, turn_id: str, conversation_id: str) -> None:
        watched = self._watched
        assert watched is not None
        if watched.conversation_id in (None, conversation_id):
            with contextlib.suppress(Invalid):
                self._follow(turn_id, 0, watched.render)

    async def _tell_fault(self, fault: Fault, client_id: str | None) -> None:
        frame: dict[str, Any] = {"type": "error", "problem": problem(fault, self._request_id())}
        if client_id is not None:
            frame["client_id"] = client_id
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await self._socket.send_text(orjson.dumps(frame).decode())

    def _request_id(self) -> str | None:
        state = self._socket.scope.get("state", {})
        request_id: str | None = state.get("request_id")
        return request_id


class Rendering:
    """The finished blocks of an answer as HTML, for the page. They have no seq of their own."""

    def __init__(self, turn_id: str) -> None:
        self._turn_id = turn_id
        self._renderer = BlockRenderer()

    def blocks(self, event: Event) -> list[str]:
        """The frames of the blocks that this event finished."""
        match event.type:
            case "delta":
                found = self._renderer.feed(event.facts()["text"])
            case "reset":
                self._renderer = BlockRenderer()
                found = self._renderer.feed(event.facts()["text"])
            case "done" | "failed":
                found = self._renderer.finish()
            case _:
                return []
        return [self._told(block) for block in found]

    def _told(self, block: Block) -> str:
        frame = {"type": "block", "turn_id": self._turn_id, **vars(block)}
        return orjson.dumps(frame).decode()


def _as_posted(frame: SayFrame) -> shapes.ChatAsked:
    return shapes.ChatAsked.model_validate(
        frame.model_dump(exclude={"type", "render", "idempotency_key"})
    )


def _read(message: Any) -> Any:
    text = message.get("text")
    if text is None:
        raise Malformed("A frame must be text.")
    try:
        return read_json(text.encode())
    except UnicodeEncodeError as error:
        raise Malformed("The frame is not UTF-8.") from error


def _frame(value: Any) -> SayFrame | StopFrame | ResumeFrame | WatchFrame:
    try:
        return _FRAME.validate_python(value)
    except ValidationError as error:
        raise _invalid(error) from error


def _invalid(error: ValidationError) -> Invalid:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return Invalid(
        "This frame is not as it must be.",
        errors=[FieldFault(tuple(one["loc"]), str(one["msg"])) for one in found[:20]],
    )
