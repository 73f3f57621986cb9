"""Transactions that run whole in SQLite's thread, alone and together; on PostgreSQL as any other."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from mongars.database import SYSTEM, Database, DatabaseSettings, Writing
from mongars.errors import Unavailable
from mongars.ids import now
from mongars.jobs.tables import jobs


def row(job_id: str) -> dict[str, object]:
    return {
        "id": job_id,
        "owner_id": "o",
        "kind": "k",
        "payload": {},
        "state": "done",
        "priority": 0,
        "attempts": 0,
        "done": 0,
        "unit": "",
        "cancel_asked": False,
        "created_at": now(),
        "run_after": now(),
    }


async def ids(database: Database) -> set[str]:
    async with database.reading(SYSTEM) as r:
        return {one.id for one in await r.all(sa.select(jobs.c.id))}


def adding(job_id: str, *, then: BaseException | None = None):  # type: ignore[no-untyped-def]
    async def work(w: Writing) -> str:
        await w.execute(sa.insert(jobs), row(job_id))
        if then is not None:
            raise then
        found = await w.scalar(sa.select(jobs.c.id).where(jobs.c.id == job_id))
        return str(found)

    return work


async def test_what_it_returns_is_committed(database: Database) -> None:
    told: list[str] = []

    async def work(w: Writing) -> str:
        w.on_commit(lambda: told.append("committed"))
        return str(await adding("a")(w))

    assert await database.at_once(SYSTEM, work) == "a"
    assert told == ["committed"]
    assert await ids(database) == {"a"}


async def test_what_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(ValueError, match="no"):
        await database.at_once(SYSTEM, adding("a", then=ValueError("no")))
    assert await ids(database) == set()
    assert await database.at_once(SYSTEM, adding("a")) == "a"


async def test_of_many_together_only_the_failing_ones_fail(database: Database) -> None:
    works = [
        database.at_once(SYSTEM, adding(f"j{n}", then=ValueError("no") if n % 3 == 0 else None))
        for n in range(12)
    ]
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    failed = {n for n, one in enumerate(outcomes) if isinstance(one, ValueError)}
    assert failed == {0, 3, 6, 9}
    assert await ids(database) == {f"j{n}" for n in range(12) if n % 3}


async def test_the_same_id_twice_fails_once(database: Database) -> None:
    works = [database.at_once(SYSTEM, adding("same")) for _ in range(4)]
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    assert outcomes.count("same") == 1
    assert sum(isinstance(one, sa.exc.IntegrityError) for one in outcomes) == 3


async def test_it_takes_turns_with_other_writers(database: Database) -> None:
    async def other(n: int) -> None:
        async with database.writing(SYSTEM) as w:
            await w.execute(sa.insert(jobs), row(f"other{n}"))
            await asyncio.sleep(0.005)

    await asyncio.gather(
        *(other(n) for n in range(10)),
        *(database.at_once(SYSTEM, adding(f"once{n}")) for n in range(10)),
        *(other(n) for n in range(10, 20)),
    )
    assert len(await ids(database)) == 30


async def test_a_caller_that_gives_up_changes_nothing_for_the_others(database: Database) -> None:
    given_up = asyncio.create_task(database.at_once(SYSTEM, adding("a")))
    others = [asyncio.create_task(database.at_once(SYSTEM, adding(f"b{n}"))) for n in range(3)]
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(*others)
    assert {"b0", "b1", "b2"} <= await ids(database)


async def test_waiting_for_something_else_inside_is_a_bug_that_is_told(database: Database) -> None:
    if database.dialect != "sqlite":
        return

    async def work(w: Writing) -> None:
        await w.execute(sa.insert(jobs), row("a"))
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waited"):
        await database.at_once(SYSTEM, work)
    assert await ids(database) == set()


async def test_a_batch_is_all_or_nothing(database: Database) -> None:
    await database.at_once(SYSTEM, adding("a"))
    mark = "?" if database.dialect == "sqlite" else "$"
    rename = f"UPDATE jobs SET id = {mark}1 WHERE id = {mark}2"
    assert await database.batch(SYSTEM, [(rename, ("b", "a")), (rename, ("c", "a"))]) == [1, 0]
    with pytest.raises(sa.exc.DBAPIError):
        await database.batch(
            SYSTEM, [(rename, ("d", "b")), ("INSERT INTO jobs SELECT * FROM jobs", ())]
        )
    assert await ids(database) == {"b"}


async def test_a_lock_that_is_held_too_long_is_unavailable(database: Database) -> None:
    if database.dialect != "sqlite":
        return
    database._wait_s = 0.05
    async with database.writing(SYSTEM) as w:
        await w.execute(sa.insert(jobs), row("a"))
        with pytest.raises(Unavailable):
            await database.at_once(SYSTEM, adding("b"))
    assert await database.at_once(SYSTEM, adding("b")) == "b"


async def test_the_settings_of_a_connection_hold_there_too(tmp_path) -> None:  # type: ignore[no-untyped-def]
    async def asked(w: Writing) -> tuple[int, int]:
        synchronous = await w.scalar(sa.text("PRAGMA synchronous"))
        return synchronous, await w.scalar(sa.text("PRAGMA foreign_keys"))

    async with Database.open(DatabaseSettings(), tmp_path) as database:
        assert await database.at_once(SYSTEM, asked) == (2, 1)
