"""Every route and socket of the application, asked by nobody, by impostors, by others, by an admin.

A route without a row in `ROWS` fails, and so does a row without a route. A row says who may come in,
and where the address names something that somebody owns, how Alice makes one: others are told that
nothing is there. Add yours under the name of your organ.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import httpx
import pytest
from fastapi import FastAPI

from mongars.database import SYSTEM
from tests.conftest import PASSWORD, client_of

if TYPE_CHECKING:
    from mongars.body import Body

V1 = "/api/v1"
Way = tuple[str, str]
"""A method (`WS` for a socket) and the path as the application declares it."""


@dataclass(frozen=True)
class World:
    """The application, and the people in it."""

    body: Body
    nobody: httpx.AsyncClient
    impostor: httpx.AsyncClient
    disabled: httpx.AsyncClient
    alice: httpx.AsyncClient
    bob: httpx.AsyncClient
    admin: httpx.AsyncClient

    async def made(self, path: str, said: Any = None, *, name: str = "id") -> str:
        """The id of something that Alice makes by POST."""
        answer = await self.alice.post(V1 + path, json=said)
        assert answer.is_success, answer.text
        return str(answer.json()[name])


Address = Callable[[World], Awaitable[str | tuple[str, Any]]]


@dataclass(frozen=True)
class Row:
    """Who may ask, and for what of Alice's."""

    who: Literal["anybody", "person", "admin", "ticket"]
    of_alice: Address | None = None
    """The address of something of Alice's that exists, or an address and the body that names it:
    another person's answer is 404."""
    said: Any = None
    """A body that is right, where one is needed to get as far as the thing itself."""
    admin_sees: bool = False
    """Whether an admin is shown it too: only what holds no words of anybody's."""


async def alices_session(world: World) -> str:
    form = {"grant_type": "password", "username": "alice", "password": PASSWORD}
    await world.nobody.post(f"{V1}/token", data=form)
    items = (await world.alice.get(f"{V1}/me/sessions")).json()["items"]
    session_id = next(one["id"] for one in items if not one["current"])
    return f"{V1}/me/sessions/{session_id}"


async def alices_key(world: World) -> str:
    return f"{V1}/me/api-keys/{await world.made('/me/api-keys', {'name': 'x'})}"


async def alices_passkey(world: World) -> str:
    from tests.auth.authenticator import Authenticator

    host = {"host": "localhost"}
    begun = await world.alice.post(f"{V1}/me/passkeys/begin", headers=host)
    credential = Authenticator("http://localhost").create(begun.json())
    kept = await world.alice.post(
        f"{V1}/me/passkeys", json={"name": "x", "credential": credential}, headers=host
    )
    return f"{V1}/me/passkeys/{kept.json()['id']}"


def alices_job(ending: str = "") -> Address:
    async def address(world: World) -> str:
        from mongars.database import SYSTEM

        me = (await world.alice.get(f"{V1}/me")).json()["id"]
        async with world.body.database.writing(SYSTEM) as w:
            job_id = await world.body.jobs.enqueue(w, "test.never", {}, owner_id=me)
        if ending == "/events":  # the stream of a job that has ended ends
            await world.body.jobs.cancel(job_id, me)
        return f"{V1}/jobs/{job_id}{ending}"

    return address


async def chatted(world: World) -> dict[str, Any]:
    """What Alice is answered when she says something."""
    answer = await world.alice.post(f"{V1}/chat", json={"message": "one two three"})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def alices_conversation_to_talk_in(world: World) -> tuple[str, Any]:
    told = await chatted(world)
    return f"{V1}/chat", {"message": "four", "conversation_id": told["conversation_id"]}


def alices_turn(ending: str = "") -> Address:
    async def address(world: World) -> str:
        return f"{V1}/turns/{(await chatted(world))['turn_id']}{ending}"

    return address


def alices_answer(ending: str) -> Address:
    async def address(world: World) -> str:
        return f"{V1}/messages/{(await chatted(world))['message']['id']}{ending}"

    return address


async def alices_question(world: World) -> str:
    return f"{V1}/messages/{(await chatted(world))['message']['parent_id']}"


def alices_conversation(ending: str = "") -> Address:
    async def address(world: World) -> str:
        return f"{V1}/conversations/{(await chatted(world))['conversation_id']}{ending}"

    return address


async def alices_deleted_conversation(world: World) -> str:
    address = f"{V1}/conversations/{(await chatted(world))['conversation_id']}"
    assert (await world.alice.delete(address)).status_code == 204
    return f"{address}/restore"


async def alices_fork(world: World) -> tuple[str, Any]:
    told = await chatted(world)
    said = {"message_id": told["message"]["id"]}
    return f"{V1}/conversations/{told['conversation_id']}/fork", said


async def alices_preset(world: World) -> str:
    name = f"p{len((await world.alice.get(f'{V1}/presets')).json()['items'])}"
    return f"{V1}/presets/{await world.made('/presets', {'name': name})}"


async def alices_export(world: World) -> str:
    asked = await world.alice.get(f"{V1}/me/export")
    job_id = asked.json()["job_id"]
    worker = asyncio.ensure_future(world.body.jobs.run())
    try:
        async with asyncio.timeout(20):
            while not (await world.body.jobs.get(job_id, SYSTEM)).ended:
                await asyncio.sleep(0.02)
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    return f"{V1}/me/exports/{job_id}"


ANYBODY, PERSON, ADMIN = Row("anybody"), Row("person"), Row("admin")

ROWS: dict[Way, Row] = {
    # ground
    ("GET", "/openapi.json"): ANYBODY,
    ("GET", "/docs"): ANYBODY,
    ("GET", "/docs/{name}"): ANYBODY,
    ("GET", "/healthz"): ANYBODY,
    ("GET", "/readyz"): ANYBODY,
    ("GET", "/metrics"): ANYBODY,  # from loopback; tests/api/test_health.py has the rest
    ("GET", f"{V1}/jobs"): PERSON,
    ("GET", f"{V1}/jobs/{{job_id}}"): Row("person", alices_job(), admin_sees=True),
    ("POST", f"{V1}/jobs/{{job_id}}/cancel"): Row("person", alices_job("/cancel"), admin_sees=True),
    ("GET", f"{V1}/jobs/{{job_id}}/events"): Row("person", alices_job("/events"), admin_sees=True),
    # auth
    ("GET", "/.well-known/jwks.json"): ANYBODY,
    ("GET", f"{V1}/auth/ways"): ANYBODY,
    ("POST", f"{V1}/auth/setup"): ANYBODY,
    ("POST", f"{V1}/auth/register"): ANYBODY,
    ("POST", f"{V1}/token"): ANYBODY,
    ("POST", f"{V1}/token/refresh"): ANYBODY,
    ("POST", f"{V1}/auth/passkeys/begin"): ANYBODY,
    ("POST", f"{V1}/auth/passkeys/finish"): ANYBODY,
    ("GET", f"{V1}/auth/oidc/start"): ANYBODY,
    ("GET", f"{V1}/auth/oidc/callback"): ANYBODY,
    ("POST", f"{V1}/auth/oidc/finish"): ANYBODY,
    ("POST", f"{V1}/auth/logout"): PERSON,
    ("POST", f"{V1}/ws/ticket"): PERSON,
    ("GET", f"{V1}/me"): PERSON,
    ("PATCH", f"{V1}/me"): PERSON,
    ("DELETE", f"{V1}/me"): PERSON,
    ("POST", f"{V1}/me/password"): PERSON,
    ("GET", f"{V1}/me/sessions"): PERSON,
    ("DELETE", f"{V1}/me/sessions/{{session_id}}"): Row("person", alices_session),
    ("POST", f"{V1}/me/otp"): PERSON,
    ("POST", f"{V1}/me/otp/confirm"): PERSON,
    ("DELETE", f"{V1}/me/otp"): PERSON,
    ("POST", f"{V1}/me/passkeys/begin"): PERSON,
    ("POST", f"{V1}/me/passkeys"): PERSON,
    ("GET", f"{V1}/me/passkeys"): PERSON,
    ("DELETE", f"{V1}/me/passkeys/{{passkey_id}}"): Row("person", alices_passkey),
    ("GET", f"{V1}/me/api-keys"): PERSON,
    ("POST", f"{V1}/me/api-keys"): PERSON,
    ("DELETE", f"{V1}/me/api-keys/{{key_id}}"): Row("person", alices_key),
    ("POST", f"{V1}/me/oidc"): PERSON,
    ("GET", f"{V1}/admin/people"): ADMIN,
    ("GET", f"{V1}/admin/people/{{person_id}}"): ADMIN,
    ("PATCH", f"{V1}/admin/people/{{person_id}}"): ADMIN,
    ("POST", f"{V1}/admin/people/{{person_id}}/disable"): ADMIN,
    ("POST", f"{V1}/admin/people/{{person_id}}/enable"): ADMIN,
    ("DELETE", f"{V1}/admin/people/{{person_id}}/otp"): ADMIN,
    ("DELETE", f"{V1}/admin/people/{{person_id}}"): ADMIN,
    ("GET", f"{V1}/admin/invitations"): ADMIN,
    ("POST", f"{V1}/admin/invitations"): ADMIN,
    ("DELETE", f"{V1}/admin/invitations/{{invitation_id}}"): ADMIN,
    # cortex
    ("POST", f"{V1}/chat"): Row("person", alices_conversation_to_talk_in),
    ("GET", f"{V1}/turns/{{turn_id}}"): Row("person", alices_turn()),
    ("GET", f"{V1}/turns/{{turn_id}}/events"): Row("person", alices_turn("/events")),
    ("POST", f"{V1}/turns/{{turn_id}}/stop"): Row("person", alices_turn("/stop")),
    ("POST", f"{V1}/messages/{{message_id}}/regenerate"): Row(
        "person", alices_answer("/regenerate")
    ),
    ("POST", f"{V1}/messages/{{message_id}}/continue"): Row("person", alices_answer("/continue")),
    ("PATCH", f"{V1}/messages/{{message_id}}"): Row("person", alices_question, {"text": "other"}),
    ("WS", f"{V1}/ws/chat"): Row("ticket"),
    # hippocampus
    ("GET", f"{V1}/conversations"): PERSON,
    ("POST", f"{V1}/conversations"): PERSON,
    ("GET", f"{V1}/conversations/search"): PERSON,
    ("POST", f"{V1}/conversations/import"): PERSON,
    ("GET", f"{V1}/conversations/{{conversation_id}}"): Row("person", alices_conversation()),
    ("PATCH", f"{V1}/conversations/{{conversation_id}}"): Row(
        "person", alices_conversation(), {"title": "mine"}
    ),
    ("DELETE", f"{V1}/conversations/{{conversation_id}}"): Row("person", alices_conversation()),
    ("POST", f"{V1}/conversations/{{conversation_id}}/restore"): Row(
        "person", alices_deleted_conversation
    ),
    ("GET", f"{V1}/conversations/{{conversation_id}}/messages"): Row(
        "person", alices_conversation("/messages")
    ),
    ("POST", f"{V1}/conversations/{{conversation_id}}/fork"): Row("person", alices_fork),
    ("GET", f"{V1}/conversations/{{conversation_id}}/export"): Row(
        "person", alices_conversation("/export")
    ),
    ("GET", f"{V1}/messages/{{message_id}}"): Row("person", alices_answer("")),
    ("POST", f"{V1}/messages/{{message_id}}/feedback"): Row(
        "person", alices_answer("/feedback"), {"value": 1}
    ),
    ("GET", f"{V1}/history"): PERSON,
    ("GET", f"{V1}/presets"): PERSON,
    ("POST", f"{V1}/presets"): PERSON,
    ("PATCH", f"{V1}/presets/{{preset_id}}"): Row("person", alices_preset, {"name": "other"}),
    ("DELETE", f"{V1}/presets/{{preset_id}}"): Row("person", alices_preset),
    ("GET", f"{V1}/me/export"): PERSON,
    ("GET", f"{V1}/me/exports/{{job_id}}"): Row("person", alices_export),
    # llm
    ("GET", f"{V1}/models"): PERSON,
    ("POST", f"{V1}/models/pull"): ADMIN,
    ("POST", f"{V1}/models/use"): ADMIN,
    ("DELETE", f"{V1}/models/{{model_id:path}}"): ADMIN,
    ("GET", "/v1/models"): PERSON,
    ("GET", "/v1/models/{name:path}"): PERSON,
    ("POST", "/v1/chat/completions"): PERSON,
    ("POST", "/v1/embeddings"): PERSON,
    # what is not built yet
    **{
        (method, path + below): PERSON
        for path in (
            f"{V1}/memories",
            f"{V1}/documents",
            f"{V1}/personality",
            f"{V1}/peers",
            "/mcp",
        )
        for below in ("", "/{rest:path}")
        for method in ("GET", "POST", "PATCH", "DELETE")
    },
}


def ways_of(app: FastAPI) -> Iterator[Way]:
    """Every route and socket that the application declares."""
    for route in app.routes:
        candidates = getattr(route, "effective_candidates", None)
        for one in candidates() if candidates else [route]:
            declared = getattr(one, "starlette_route", None) or one
            for method in getattr(one, "methods", None) or {"WS"}:
                if method != "HEAD":
                    yield method, one.path or declared.path


@pytest.fixture
async def world(
    body: Body,
    client: httpx.AsyncClient,
    alice: httpx.AsyncClient,
    bob: httpx.AsyncClient,
    admin: httpx.AsyncClient,
) -> AsyncIterator[World]:
    made = await body.auth.add_person("carol", PASSWORD)
    _session, token = await body.auth.open_local_session(made.id)
    await body.auth.disable("carol")
    async with AsyncExitStack() as stack:
        impostor = await stack.enter_async_context(client_of(body, "not.a.token"))
        disabled = await stack.enter_async_context(client_of(body, token))
        yield World(body, client, impostor, disabled, alice, bob, admin)


async def ask(client: httpx.AsyncClient, way: Way, address: str, said: Any) -> int:
    """The status that this person is answered; a stream is left after its head."""
    async with client.stream(way[0], address, json=said) as answer:
        return answer.status_code


def somewhere(path: str) -> str:
    """The path with ids that nothing has."""
    parts = ["nothing" if part.startswith("{") else part for part in path.split("/")]
    return "/".join(parts)


def test_every_route_has_a_row_and_every_row_a_route(body: Body) -> None:
    from mongars.api.app import create_app

    ways = list(ways_of(create_app(body.settings)))
    assert len(ways) == len(set(ways))
    assert set(ways) - set(ROWS) == set(), "add a row for each of these"
    assert set(ROWS) - set(ways) == set(), "these are gone"


async def test_nobody_and_impostors_are_told_to_sign_in_everywhere(world: World) -> None:
    wrong = []
    for way, row in ROWS.items():
        if row.who in ("anybody", "ticket"):
            continue
        for client in (world.nobody, world.impostor, world.disabled):
            status = await ask(client, way, somewhere(way[1]), row.said)
            wrong += [(way, status)] if status != 401 else []
    assert wrong == []


async def test_what_is_open_to_anybody_is_not_closed_by_a_wrong_token(world: World) -> None:
    wrong = []
    for way, row in ROWS.items():
        if row.who == "anybody":
            answers = [
                await ask(client, way, somewhere(way[1]), row.said)
                for client in (world.nobody, world.impostor, world.disabled)
            ]
            wrong += [(way, answers)] if len(set(answers)) != 1 or answers[0] >= 504 else []
    assert wrong == []


async def test_what_is_an_admins_is_closed_to_others(world: World) -> None:
    wrong = []
    for way, row in ROWS.items():
        if row.who != "admin":
            continue
        address = somewhere(way[1])
        told = await ask(world.bob, way, address, None), await ask(world.admin, way, address, None)
        wrong += [(way, told)] if told[0] != 403 or told[1] in (401, 403) else []
    assert wrong == []


async def test_another_persons_things_are_not_there_and_still_are_for_their_owner(
    world: World,
) -> None:
    wrong = []
    for way, row in ROWS.items():
        if row.of_alice is None or way[0] == "WS":
            continue
        made = await row.of_alice(world)
        address, said = (made, row.said) if isinstance(made, str) else made
        bobs = await ask(world.bob, way, address, said)
        admins = None if row.admin_sees else await ask(world.admin, way, address, said)
        async with asyncio.timeout(20):
            hers = await ask(world.alice, way, address, said)
        if bobs != 404 or admins not in (None, 404) or hers in (401, 403, 404, 422):
            wrong.append((way, bobs, admins, hers))
    assert wrong == []


async def test_lists_hold_nothing_of_anothers(world: World) -> None:
    hers = set()
    for row in ROWS.values():
        if row.of_alice is not None:
            made = await row.of_alice(world)
            address = made if isinstance(made, str) else f"{made[0]}/{made[1]}"
            hers |= set(re.findall(r"[0-9a-f-]{36}", address))
    assert hers
    wrong = []
    for way, row in ROWS.items():
        if row.who == "person" and way[0] == "GET" and "{" not in way[1]:
            for client in (world.bob, world.admin):
                told = await client.get(way[1])
                wrong += [way for one in hers if one in told.text]
    assert wrong == []


async def closed_with(app: FastAPI, path: str) -> int | None:
    """The code that a socket is closed with, opened by nobody's ticket."""
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    inward: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    await inward.put({"type": "websocket.connect"})
    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"ticket=nobodys",
        "headers": [(b"host", b"testserver")],
        "client": ("127.0.0.1", 1),
        "server": ("testserver", 80),
        "scheme": "ws",
        "subprotocols": [],
        "root_path": "",
        "extensions": {},
        "asgi": {"version": "3.0", "spec_version": "2.3"},
    }
    serving = asyncio.create_task(app(scope, inward.get, sent.put))  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(10):
            while True:
                told = await sent.get()
                if told["type"] == "websocket.close":
                    return int(told["code"])
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_a_socket_takes_nothing_but_a_ticket(world: World) -> None:
    from mongars.api.app import create_app

    app = create_app(world.body.settings)
    app.state.body = world.body
    for way, row in ROWS.items():
        if way[0] == "WS":
            assert row.who == "ticket"
            assert await closed_with(app, way[1]) == 4401, way
