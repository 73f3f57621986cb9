"""A disk that is full, a database that is locked or lost: said, nothing half-written, and over with it."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import text

from tests.conftest import TWIN, _token, client_of
from tests.journeys.processes import add_person, key_of, person, serving
from tests.servers import Postgres

if TYPE_CHECKING:
    from mongars.body import Body

V1 = "/api/v1"
LONG = "[[words 3]] " + "long " * 6_000
"""More than what is left of a page: storing it takes new ones."""


@asynccontextmanager
async def bodied(tmp_path: Path, **settings: str) -> AsyncIterator[Body]:
    from mongars.body import Body
    from mongars.database import migrate
    from mongars.settings import load

    environ = {"MONGARS_LLM__BACKEND": TWIN, "MONGARS_CORTEX__TITLES": "false", **settings}
    data = tmp_path / "data"
    async with Body.open(load(data, environ), data) as body:
        await migrate.upgrade(body.database)
        yield body


def told(answered: httpx.Response, slug: str) -> dict[str, Any]:
    """A 503 that says when to try again."""
    assert answered.status_code == 503, answered.text
    assert answered.headers["content-type"] == "application/problem+json"
    assert int(answered.headers["retry-after"]) >= 1
    problem: dict[str, Any] = answered.json()
    assert problem["type"] == f"urn:mongars:problem:{slug}"
    return problem


async def conversations(client: httpx.AsyncClient) -> list[str]:
    """Ids of what there is to see."""
    answered = await client.get(f"{V1}/conversations")
    assert answered.status_code == 200, answered.text
    return [one["id"] for one in answered.json()["items"]]


async def rows(body: Body) -> dict[str, int]:
    """How many rows what was said has."""
    from mongars.database import SYSTEM

    found = {}
    async with body.database.reading(SYSTEM) as r:
        for table in ("conversations", "messages", "turns", "turn_events", "jobs"):
            found[table] = int(await r.scalar(text(f"SELECT count(*) FROM {table}")))
    return found


async def give_room(body: Body, pages: int) -> None:
    """Let the database grow to this many pages: each connection that writes has its own bound."""
    from mongars.database import SYSTEM, Writing

    bound = text(f"PRAGMA max_page_count={pages}")

    async def there(w: Writing) -> None:
        await w.execute(bound)

    await body.database.at_once(SYSTEM, there)
    async with body.database.writing(SYSTEM) as w:
        await w.execute(bound)


async def test_a_full_disk_is_said_stores_nothing_and_is_over_when_there_is_room(
    tmp_path: Path,
) -> None:
    from mongars.database import SYSTEM

    async with (
        bodied(tmp_path) as body,
        client_of(body, await _token(body, "al", admin=False)) as c,
    ):
        assert (await c.post(f"{V1}/chat", json={"message": "one"})).status_code == 200
        before = await rows(body)
        async with body.database.reading(SYSTEM) as r:
            pages = int(await r.scalar(text("PRAGMA page_count")))
        await give_room(body, pages)
        told(await c.post(f"{V1}/chat", json={"message": LONG}), "disk-full")
        assert await rows(body) == before
        assert len(await conversations(c)) == 1
        await give_room(body, 1_000_000)
        assert (await c.post(f"{V1}/chat", json={"message": LONG})).status_code == 200
        assert len(await conversations(c)) == 2


async def test_a_locked_database_is_said_is_still_read_and_recovers(tmp_path: Path) -> None:
    quick = {"MONGARS_DATABASE__WAIT_S": "0.3"}
    async with (
        bodied(tmp_path, **quick) as body,
        client_of(body, await _token(body, "al", admin=False)) as c,
    ):
        assert (await c.post(f"{V1}/chat", json={"message": "one"})).status_code == 200
        before = await rows(body)
        other = sqlite3.connect(tmp_path / "data" / "mongars.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answers = await asyncio.gather(
            *(c.post(f"{V1}/chat", json={"message": f"two {n}"}) for n in range(4))
        )
        for answered in answers:
            told(answered, "database-busy")
        assert len(await conversations(c)) == 1
        other.rollback()
        assert await rows(body) == before
        assert (await c.post(f"{V1}/chat", json={"message": "three"})).status_code == 200
        other.close()


async def test_a_database_that_is_locked_in_mid_answer_leaves_one_end(tmp_path: Path) -> None:
    quick = {"MONGARS_DATABASE__WAIT_S": "0.3"}
    async with (
        bodied(tmp_path, **quick) as body,
        client_of(body, await _token(body, "al", admin=False)) as c,
    ):
        asked = {"message": "[[words 40]] [[delay 25ms]] go"}
        answering = asyncio.create_task(c.post(f"{V1}/chat", json=asked))
        other = sqlite3.connect(tmp_path / "data" / "mongars.db", isolation_level=None)
        async with asyncio.timeout(10):
            while (await rows(body))["turn_events"] < 3:
                await asyncio.sleep(0.02)
        other.execute("BEGIN IMMEDIATE")
        await asyncio.sleep(0.8)  # longer than anybody waits for the lock
        other.rollback()
        other.close()
        async with asyncio.timeout(40):
            answered = await answering
        assert answered.status_code in (200, 503), answered.text
        turn = (await c.get(f"{V1}/turns/{answered.json()['turn_id']}")).json()
        events = (await c.get(f"{V1}/turns/{turn['id']}/events")).text
        assert events.count("event: done") + events.count("event: failed") == 1
        assert turn["state"] in ("done", "failed")
        assert (await c.post(f"{V1}/chat", json={"message": "next"})).status_code == 200


@pytest.mark.slow
async def test_a_server_whose_disk_is_full_lives_and_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("not on this platform: limits of another process cannot be set")
    add_person(tmp_path)
    with serving(tmp_path) as server:
        async with person(server, key_of(server)) as client:
            assert (await client.post("/chat", json={"message": "one"})).status_code == 200
            free = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (4096, free[1]))
            for _ in range(3):
                refused = await client.post("/chat", json={"message": LONG})
                assert refused.status_code == 503, refused.text
                assert "problem+json" in refused.headers["content-type"]
            assert len((await client.get("/conversations")).json()["items"]) == 1
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, free)
            said = await client.post("/chat", json={"message": LONG})
            assert said.status_code == 200, said.text
            assert len((await client.get("/conversations")).json()["items"]) == 2
        server.terminate()
    found = sqlite3.connect(tmp_path / "mongars.db").execute("PRAGMA integrity_check").fetchone()
    assert found == ("ok",)


@pytest.mark.slow
async def test_a_lost_postgresql_is_said_and_its_return_needs_no_restart(
    tmp_path: Path,
) -> None:
    with Postgres.running(tmp_path) as server, server.database() as url:
        settings = {"MONGARS_DATABASE__URL": url, "MONGARS_DATABASE__WAIT_S": "1"}
        async with (
            bodied(tmp_path, **settings) as body,
            client_of(body, await _token(body, "al", admin=False)) as c,
        ):
            assert (await c.post(f"{V1}/chat", json={"message": "one"})).status_code == 200
            before = await rows(body)
            server.stop()
            for _ in range(3):
                said = await c.post(f"{V1}/chat", json={"message": "two"})
                told(said, "database-unavailable")
            assert (await c.get("/healthz")).status_code == 200
            assert (await c.get("/readyz")).status_code == 503
            server.start()
            async with asyncio.timeout(20):
                while (await c.get("/readyz")).status_code != 200:
                    await asyncio.sleep(0.1)
            assert await rows(body) == before
            assert (await c.post(f"{V1}/chat", json={"message": "three"})).status_code == 200
            assert len(await conversations(c)) == 2
