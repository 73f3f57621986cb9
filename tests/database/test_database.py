"""The database keeps what was committed, shows each owner their own, and fails plainly."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from mongars.bus import Bus
from mongars.database import SYSTEM, Database, DatabaseSettings, migrate
from mongars.errors import NotConfigured, Unavailable
from mongars.ids import new_id, now
from mongars.jobs import Jobs, JobsSettings
from mongars.jobs.tables import jobs as table


def _row(owner: str) -> dict[str, object]:
    return {
        "id": new_id(),
        "owner_id": owner,
        "kind": "k",
        "payload": {"a": 1},
        "state": "done",
        "priority": 0,
        "attempts": 0,
        "done": 0,
        "unit": "",
        "cancel_asked": False,
        "created_at": now(),
        "run_after": now(),
    }


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    told: list[str] = []
    with pytest.raises(RuntimeError):
        async with database.writing("alice") as w:
            await w.execute(sa.insert(table).values(**_row("alice")))
            w.on_commit(lambda: told.append("committed"))
            raise RuntimeError
    async with database.reading("alice") as r:
        assert await r.scalar(sa.select(sa.func.count()).select_from(table)) == 0
    assert told == []


async def test_what_follows_a_commit_is_called_after_it(database: Database) -> None:
    told: list[str] = []
    async with database.writing("alice") as w:
        await w.execute(sa.insert(table).values(**_row("alice")))
        w.on_commit(lambda: told.append("committed"))
        assert told == []
    assert told == ["committed"]


async def test_times_and_json_come_back_as_they_went_in(database: Database) -> None:
    row = _row("alice") | {"payload": {"text": "é\u2028😀", "n": [1, None]}}
    async with database.writing("alice") as w:
        await w.execute(sa.insert(table).values(**row))
    async with database.reading("alice") as r:
        found = await r.one(sa.select(table.c.payload, table.c.created_at))
    assert found is not None
    assert found.payload == row["payload"]
    assert found.created_at == row["created_at"]


async def test_writers_wait_for_each_other(database: Database) -> None:
    async def add(n: int) -> None:
        async with database.writing("alice") as w:
            count = await w.scalar(sa.select(sa.func.count()).select_from(table))
            await asyncio.sleep(0)
            await w.execute(sa.insert(table).values(**_row("alice") | {"done": count}))

    await asyncio.gather(*(add(n) for n in range(10)))
    async with database.reading("alice") as r:
        assert await r.scalar(sa.select(sa.func.count()).select_from(table)) == 10


async def test_a_locked_database_is_a_fault_and_recovers(tmp_path) -> None:  # type: ignore[no-untyped-def]
    settings = DatabaseSettings(wait_s=0.2)
    async with Database.open(settings, tmp_path) as database:
        await migrate.upgrade(database)
        async with database.writing(SYSTEM):
            with pytest.raises(Unavailable) as caught:
                async with database.writing(SYSTEM):
                    pass
        assert caught.value.problem == "database-busy"
        async with database.writing(SYSTEM) as w:
            await w.execute(sa.insert(table).values(**_row("alice")))


async def test_a_database_that_is_away_is_a_fault(tmp_path) -> None:  # type: ignore[no-untyped-def]
    settings = DatabaseSettings(url="postgresql://nobody@127.0.0.1:1/none", wait_s=1)
    async with Database.open(settings, tmp_path) as database:
        with pytest.raises(Unavailable):
            async with database.reading(SYSTEM):
                pass


async def test_an_address_of_another_kind_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(NotConfigured):
        async with Database.open(DatabaseSettings(url="mysql://localhost/x"), tmp_path):
            pass


async def test_postgresql_itself_hides_the_rows_of_others(postgres_url: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    async with Database.open(DatabaseSettings(url=postgres_url), tmp_path) as database:
        await migrate.upgrade(database)
        async with database.writing("alice") as w:
            await w.execute(sa.insert(table).values(**_row("alice")))
        count = sa.select(sa.func.count()).select_from(table)
        async with database.reading("bob") as r:
            assert await r.scalar(count) == 0
        async with database.reading("bob") as r:  # a statement that lies about who it works for
            await r.execute(sa.text("SELECT set_config('mongars.system', 'on', true)"))
            assert await r.scalar(count) == 0
        async with database.reading("alice") as r:
            assert await r.scalar(count) == 1
        async with database.reading(SYSTEM) as r:
            assert await r.scalar(count) == 1
        with pytest.raises(sa.exc.ProgrammingError):
            async with database.writing("bob") as w:
                await w.execute(sa.insert(table).values(**_row("alice")))


async def test_jobs_are_seen_by_their_owner_only(database: Database) -> None:
    jobs = Jobs(database, Bus(None), JobsSettings())
    async with database.writing("alice") as w:
        await jobs.enqueue(w, "k", {}, owner_id="alice")
    assert len(await jobs.recent("alice")) == 1
    assert len(await jobs.recent("bob")) == 0


async def test_an_empty_postgresql_waits_for_its_migration(
    postgres_url: str, tmp_path: Path
) -> None:
    settings = DatabaseSettings(url=SecretStr(postgres_url))
    async with Database.open(settings, tmp_path) as database:
        with pytest.raises(Unavailable, match="mongars migrate"):
            async with database.reading(SYSTEM) as r:
                await r.all(sa.text("SELECT id FROM jobs"))
        with pytest.raises(Unavailable, match="mongars migrate"):
            await database.batch(SYSTEM, [("DELETE FROM jobs WHERE id = $1", ("x",))])
