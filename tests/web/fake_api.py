"""A small API with the shapes that the page relies on: one process, everything in memory."""

import asyncio
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from mongars.bouche import Block, BlockRenderer
from mongars.ids import new_id, now, rfc3339

SETUP_CODE = "code-of-the-first-start"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PASSWORD = "a long and quiet river"
ANSWER = "Here is **one** thing.\n\n- first\n- second\n\n```python\nx = 1\n```\n\nThat is all."


def problem(status: int, slug: str, detail: str = "no", **headers: str) -> JSONResponse:
    told = {
        "type": f"urn:mongars:problem:{slug}",
        "title": slug,
        "status": status,
        "detail": detail,
    }
    return JSONResponse(told | {"errors": []}, status, headers=headers)


@dataclass
class FakeApi:
    """State, and the application over it."""

    answer: str = ANSWER
    delay_s: float = 0.0
    expires_in: float = 600
    otp: str | None = None
    starter: bool = True
    oidc_on: bool = False
    devices: list[str | None] = field(default_factory=list)
    people: dict[str, str] = field(default_factory=dict)
    access: dict[str, str] = field(default_factory=dict)
    refresh: dict[str, str] = field(default_factory=dict)
    successors: dict[str, dict[str, Any]] = field(default_factory=dict)
    conversations: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    hold_after: int = 1_000_000
    """Characters of an answer after which it waits for `go`."""
    go: threading.Event = field(default_factory=threading.Event)
    frames: list[dict[str, Any]] = field(default_factory=list)
    turns: dict[str, "Turn"] = field(default_factory=dict)
    watchers: dict[str | None, list["Listen"]] = field(default_factory=lambda: defaultdict(list))
    running: list[asyncio.Task[None]] = field(default_factory=list)
    model: dict[str, Any] = field(
        default_factory=lambda: {"state": "ok", "backend": "embedded", "model": "starter"}
    )

    def app(self) -> Starlette:
        v1 = "/api/v1"
        return Starlette(
            routes=[
                Route(f"{v1}/auth/setup", self.setup, methods=["POST"]),
                Route(f"{v1}/auth/ways", self.ways),
                Route(f"{v1}/me", self.me),
                Route(f"{v1}/auth/oidc/finish", self.oidc, methods=["POST"]),
                Route(f"{v1}/token", self.token, methods=["POST"]),
                Route(f"{v1}/token/refresh", self.exchange, methods=["POST"]),
                Route(f"{v1}/auth/logout", self.logout, methods=["POST"]),
                Route(f"{v1}/me/sessions", self.sessions),
                Route(f"{v1}/me/password", self.password, methods=["POST"]),
                Route(f"{v1}/conversations", self.listed),
                Route(f"{v1}/conversations/{{id}}", self.one, methods=["GET", "PATCH", "DELETE"]),
                Route(f"{v1}/conversations/{{id}}/messages", self.said),
                Route(f"{v1}/conversations/{{id}}/restore", self.restore, methods=["POST"]),
                Route(f"{v1}/messages/{{id}}", self.message),
                Route(f"{v1}/chat", self.chat, methods=["POST"]),
                Route(f"{v1}/ws/ticket", self.ticket, methods=["POST"]),
                Route(f"{v1}/models", self.models),
                Route("/readyz", self.ready),
                WebSocketRoute(f"{v1}/ws/chat", self.socket),
            ]
        )

    def _tokens(self, name: str) -> dict[str, Any]:
        access, refresh = new_id(), new_id()
        self.access[access] = name
        self.refresh[refresh] = name
        return {
            "access_token": access,
            "refresh_token": refresh,
            "token_type": "bearer",
            "expires_in": self.expires_in,
        }

    def _who(self, request: Request) -> str | None:
        client = request.client.host if request.client else ""
        headers = dict(request.headers) | {"x-seen-client": client}
        self.seen.append((request.method, request.url.path, headers))
        return self.access.get(request.headers.get("authorization", "").removeprefix("Bearer "))

    async def ways(self, request: Request) -> Response:
        return JSONResponse(
            {"registration": "invitation", "oidc": self.oidc_on, "set_up": bool(self.people)}
        )

    async def me(self, request: Request) -> Response:
        name = self._who(request)
        return JSONResponse({"username": name}) if name else problem(401, "unproven")

    async def oidc(self, request: Request) -> Response:
        if (await request.json())["code"] != "from-provider":
            return problem(401, "unproven")
        return JSONResponse(self._tokens("ada"))

    async def setup(self, request: Request) -> Response:
        asked = await request.json()
        if asked["setup_code"] != SETUP_CODE:
            return problem(403, "setup-code-wrong")
        self.people[asked["username"]] = asked["password"]
        return JSONResponse({"id": new_id(), "username": asked["username"]}, 201)

    async def token(self, request: Request) -> Response:
        self._who(request)
        form = await request.form()
        name = str(form["username"])
        if form["password"] == "too often":
            return problem(429, "busy", **{"retry-after": "42"})
        if self.people.get(name) != form["password"]:
            return problem(401, "unproven")
        if self.otp and form.get("otp") != self.otp:
            given = form.get("otp")
            return problem(401, "otp-wrong") if given else problem(403, "otp-required")
        self.devices.append(str(form["device_token"]) if "device_token" in form else None)
        return JSONResponse(self._tokens(name) | {"device_token": "this-device"})

    async def exchange(self, request: Request) -> Response:
        old = (await request.json())["refresh_token"]
        if old in self.successors:
            return JSONResponse(self.successors[old])
        if old not in self.refresh:
            return problem(401, "unproven")
        self.successors[old] = self._tokens(self.refresh.pop(old))
        return JSONResponse(self.successors[old])

    async def logout(self, request: Request) -> Response:
        if self._who(request) is None:
            return problem(401, "unproven")
        self.access.pop(request.headers["authorization"].removeprefix("Bearer "))
        return Response(status_code=204)

    async def sessions(self, request: Request) -> Response:
        if self._who(request) is None:
            return problem(401, "unproven")
        one = {"id": "s1", "device": BROWSER, "current": True, "last_seen_at": rfc3339(now())}
        return JSONResponse({"items": [one], "next": None})

    async def password(self, request: Request) -> Response:
        if self._who(request) is None:
            return problem(401, "unproven")
        if (await request.json())["current_password"] != PASSWORD:
            return problem(403, "wrong-password")
        return Response(status_code=204)

    async def listed(self, request: Request) -> Response:
        if self._who(request) is None:
            return problem(401, "unproven")
        alive = [one for one in self.conversations.values() if not one["deleted"]]
        return JSONResponse({"items": alive[::-1], "next": None})

    async def one(self, request: Request) -> Response:
        if self._who(request) is None:
            return problem(401, "unproven")
        found = self.conversations.get(request.path_params["id"])
        if found is None or found["deleted"]:
            return problem(404, "missing")
        if request.method == "PATCH":
            found |= await request.json()
        if request.method == "DELETE":
            found["deleted"] = True
            return Response(status_code=204)
        return JSONResponse(found)

    async def restore(self, request: Request) -> Response:
        self.conversations[request.path_params["id"]]["deleted"] = False
        return Response(status_code=204)

    async def said(self, request: Request) -> Response:
        if self._who(request) is None:
            return problem(401, "unproven")
        if request.path_params["id"] not in self.conversations:
            return problem(404, "missing")
        found = self.messages[request.path_params["id"]]
        before = request.query_params["before"]
        until = next(place for place, one in enumerate(found) if one["id"] == before)
        start = max(0, until - int(request.query_params["limit"]))
        following = found[start]["id"] if start else None
        return JSONResponse({"items": found[start:until], "next": following})

    async def message(self, request: Request) -> Response:
        if self._who(request) is None:
            return problem(401, "unproven")
        everything = [one for talk in self.messages.values() for one in talk]
        return JSONResponse(next(m for m in everything if m["id"] == request.path_params["id"]))

    def _say(self, asked: dict[str, Any]) -> str:
        chosen = asked.get("conversation_id")
        if chosen is None:
            chosen = new_id()
            title = asked["message"][:40]
            self.conversations[chosen] = {"id": chosen, "title": title, "deleted": False}
            self.messages[chosen] = []
        self._keep(chosen, "user", asked["message"])
        return str(chosen)

    def _keep(self, chosen: str, role: str, text: str, state: str = "done") -> dict[str, Any]:
        message = {
            "id": new_id(),
            "conversation_id": chosen,
            "role": role,
            "text": text,
            "at": rfc3339(now()),
            "state": state,
            "model": "starter" if role == "assistant" else None,
            "details": {"usage": {"completion_tokens": 12}, "timing": {"total_ms": 1900}},
        }
        self.messages[chosen].append(message)
        self.conversations[chosen]["active_leaf_id"] = message["id"]
        return message

    async def chat(self, request: Request) -> Response:
        if self._who(request) is None:
            return problem(401, "unproven")
        asked = await request.json()
        chosen = self._say(asked)
        while self.hold_after == 0 and not self.go.is_set():
            await asyncio.sleep(0.005)
        message = self._keep(chosen, "assistant", self.answer)
        return JSONResponse({"turn_id": new_id(), "conversation_id": chosen, "message": message})

    async def ticket(self, request: Request) -> Response:
        name = self._who(request)
        return JSONResponse({"ticket": "t1"}) if name else problem(401, "unproven")

    async def models(self, request: Request) -> Response:
        one = {"why_not": None, "tight": False, "parameters_b": 4.0, "tokens_per_s": 12.0}
        one |= {"download_bytes": 2_500_000_000}
        slow = {"name": "slow", "parameters_b": 14.0, "tokens_per_s": 2.0}
        return JSONResponse(
            {
                "items": [{"in_use": True, "built_in": self.starter}],
                "recommended": [
                    one | {"name": "better-4b"},
                    one | slow,
                    one | {"name": "huge", "tight": True},
                ],
            }
        )

    async def ready(self, request: Request) -> Response:
        return JSONResponse({"status": "ready", "parts": {"model": self.model}})

    async def socket(self, socket: WebSocket) -> None:
        await socket.accept()
        html, conversation = False, None
        async with asyncio.TaskGroup() as tasks:
            listening: dict[str, asyncio.Task[None]] = {}

            def listen(turn: "Turn", after: int = 0) -> None:
                if turn.id not in listening:
                    talk = self._tell(socket, turn, after, html=html)
                    listening[turn.id] = tasks.create_task(talk)

            while True:
                try:
                    frame = await socket.receive_json()
                except WebSocketDisconnect:
                    for task in listening.values():
                        task.cancel()
                    return
                self.frames.append(frame)
                if frame["type"] == "watch":
                    html, conversation = frame.get("render") == "html", frame.get("conversation_id")
                    self.watchers[conversation].append(listen)
                elif frame["type"] == "say":
                    self.begin(frame, listen)
                elif frame["type"] == "resume":
                    listen(self.turns[frame["turn_id"]], frame["after"])
                elif frame["type"] == "stop":
                    self.stopped.add(frame["turn_id"])

    def begin(self, asked: dict[str, Any], listen: "Listen") -> None:
        """A turn that is told to whoever says or watches."""
        known = [one for one in self.turns.values() if one.client_id == asked["client_id"]]
        turn = known[0] if known else Turn(new_id(), self._say(asked), asked["client_id"])
        listen(turn)
        if not known:
            self.turns[turn.id] = turn
            for watcher in self.watchers[turn.conversation]:
                watcher(turn)
            self.running.append(asyncio.create_task(self._answer(turn)))

    async def _answer(self, turn: "Turn") -> None:
        turn.add("queued", position=0)
        named = {"conversation_id": turn.conversation, "model": "starter"}
        turn.add("started", **named, client_id=turn.client_id)
        sent = ""
        for at in range(0, len(self.answer), 7):
            if turn.id in self.stopped:
                break
            while len(sent) >= self.hold_after and not self.go.is_set():
                if turn.id in self.stopped:
                    break
                await asyncio.sleep(0.005)
            await asyncio.sleep(self.delay_s)
            turn.add("delta", text=self.answer[at : at + 7])
            sent += self.answer[at : at + 7]
        stopped = turn.id in self.stopped
        message = self._keep(turn.conversation, "assistant", sent, "stopped" if stopped else "done")
        turn.add(
            "done",
            message=message,
            finish_reason="stopped" if stopped else "stop",
            usage={"prompt_tokens": 5, "completion_tokens": 12},
            timing={"first_token_ms": 80, "total_ms": 1900},
        )

    async def _tell(self, socket: WebSocket, turn: "Turn", after: int, *, html: bool) -> None:
        """All events after one, with the blocks of the whole text between them."""
        renderer, at = BlockRenderer(), 0
        while True:
            while at < len(turn.events):
                event = turn.events[at]
                at += 1
                ends = event["type"] == "done"
                if ends and html:
                    await self._blocks(socket, turn, renderer.finish())
                if event["seq"] > after:
                    await socket.send_json(event)
                if event["type"] == "delta" and html:
                    await self._blocks(socket, turn, renderer.feed(event["text"]))
                if ends:
                    return
            await asyncio.sleep(0.005)

    async def _blocks(self, socket: WebSocket, turn: "Turn", blocks: list[Block]) -> None:
        for block in blocks:
            facts = {"index": block.index, "html": block.html, "upto": block.upto}
            await socket.send_json({"type": "block", "turn_id": turn.id, **facts})


@dataclass
class Turn:
    """One answer being made, event by event."""

    id: str
    conversation: str
    client_id: str
    events: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: str, **facts: Any) -> None:
        seq = len(self.events) + 1
        self.events.append({"type": kind, "turn_id": self.id, "seq": seq, **facts})


class Listen(Protocol):
    """How a socket is made to tell of a turn."""

    def __call__(self, turn: Turn, after: int = 0) -> None: ...
