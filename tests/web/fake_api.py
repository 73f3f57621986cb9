"""A small API with the shapes that the page relies on: one process, everything in memory."""

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from mongars.bouche import BlockRenderer
from mongars.ids import new_id, now, rfc3339

SETUP_CODE = "code-of-the-first-start"
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
    people: dict[str, str] = field(default_factory=dict)
    access: dict[str, str] = field(default_factory=dict)
    refresh: dict[str, str] = field(default_factory=dict)
    successors: dict[str, dict[str, Any]] = field(default_factory=dict)
    conversations: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    model: dict[str, Any] = field(
        default_factory=lambda: {"state": "ok", "backend": "embedded", "model": "starter"}
    )

    def app(self) -> Starlette:
        v1 = "/api/v1"
        return Starlette(
            routes=[
                Route(f"{v1}/auth/setup", self.setup, methods=["POST"]),
                Route(f"{v1}/token", self.token, methods=["POST"]),
                Route(f"{v1}/token/refresh", self.exchange, methods=["POST"]),
                Route(f"{v1}/auth/logout", self.logout, methods=["POST"]),
                Route(f"{v1}/me/sessions", self.sessions),
                Route(f"{v1}/me/password", self.password, methods=["POST"]),
                Route(f"{v1}/conversations", self.listed),
                Route(f"{v1}/conversations/{{id}}", self.one, methods=["GET", "PATCH", "DELETE"]),
                Route(f"{v1}/conversations/{{id}}/messages", self.said),
                Route(f"{v1}/conversations/{{id}}/restore", self.restore, methods=["POST"]),
                Route(f"{v1}/chat", self.chat, methods=["POST"]),
                Route(f"{v1}/ws/ticket", self.ticket, methods=["POST"]),
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

    async def setup(self, request: Request) -> Response:
        asked = await request.json()
        if asked["setup_code"] != SETUP_CODE:
            return problem(403, "wrong-code")
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
            return problem(403, "otp-required")
        return JSONResponse(self._tokens(name))

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
        one = {"id": "s1", "name": "A browser", "current": True, "created_at": rfc3339(now())}
        return JSONResponse({"items": [one], "next": None})

    async def password(self, request: Request) -> Response:
        if self._who(request) is None:
            return problem(401, "unproven")
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
        return JSONResponse({"items": self.messages[request.path_params["id"]], "next": None})

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
        }
        self.messages[chosen].append(message)
        return message

    async def chat(self, request: Request) -> Response:
        if self._who(request) is None:
            return problem(401, "unproven")
        asked = await request.json()
        chosen = self._say(asked)
        message = self._keep(chosen, "assistant", self.answer)
        return JSONResponse({"turn_id": new_id(), "conversation_id": chosen, "message": message})

    async def ticket(self, request: Request) -> Response:
        name = self._who(request)
        return JSONResponse({"ticket": "t1"}) if name else problem(401, "unproven")

    async def ready(self, request: Request) -> Response:
        return JSONResponse({"status": "ready", "parts": {"model": self.model}})

    async def socket(self, socket: WebSocket) -> None:
        await socket.accept()
        tasks = []
        try:
            while True:
                frame = await socket.receive_json()
                if frame["type"] == "say":
                    tasks.append(asyncio.create_task(self._turn(socket, frame)))
                if frame["type"] == "stop":
                    self.stopped.add(frame["turn_id"])
        except WebSocketDisconnect:
            for task in tasks:
                task.cancel()

    async def _turn(self, socket: WebSocket, asked: dict[str, Any]) -> None:
        turn, seq, chosen = new_id(), itertools.count(1), self._say(asked)

        async def send(kind: str, **facts: Any) -> None:
            await socket.send_json({"type": kind, "turn_id": turn, "seq": next(seq), **facts})

        client = {"client_id": asked.get("client_id")}
        await send("queued", position=0)
        await send("started", conversation_id=chosen, model="starter", **client)
        renderer, sent, finish = BlockRenderer(), "", "stop"
        for at in range(0, len(self.answer), 7):
            if turn in self.stopped:
                finish = "stopped"
                break
            await asyncio.sleep(self.delay_s)
            piece = self.answer[at : at + 7]
            sent += piece
            await send("delta", text=piece)
            for block in renderer.feed(piece):
                await self._block(socket, turn, block)
        for block in renderer.finish():
            await self._block(socket, turn, block)
        state = "stopped" if finish == "stopped" else "done"
        message = self._keep(chosen, "assistant", sent, state)
        usage = {"prompt_tokens": 5, "completion_tokens": 12}
        timing = {"first_token_ms": 80, "total_ms": 1900}
        await send("done", message=message, finish_reason=finish, usage=usage, timing=timing)

    async def _block(self, socket: WebSocket, turn: str, block: Any) -> None:
        facts = {"index": block.index, "html": block.html, "upto": block.upto}
        await socket.send_json({"type": "block", "turn_id": turn, **facts})
