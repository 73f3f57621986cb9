"""Migrations go up and down on both databases and end in what the code's tables say."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import mongars.body  # noqa: F401 - brings every organ's tables
from mongars.database import Database, DatabaseSettings, metadata, migrate


async def test_the_newest_schema_is_what_the_code_says(database: Database) -> None:
    def differences(connection: sa.Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        return list(compare_metadata(context, metadata))

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_migrations_go_down_to_nothing_and_up_again(database: Database) -> None:
    def tables(connection: sa.Connection) -> set[str]:
        return set(sa.inspect(connection).get_table_names()) - {"alembic_version"}

    async with database.engine.connect() as connection:
        before = await connection.run_sync(tables)
    await migrate.downgrade(database, "base")
    async with database.engine.connect() as connection:
        assert await connection.run_sync(tables) == set()
    await migrate.upgrade(database)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(tables) == before
    assert await migrate.current(database) == migrate.newest()


async def test_every_table_of_a_person_is_protected_by_postgresql(
    postgres_url: str, tmp_path: Path
) -> None:
    async with Database.open(DatabaseSettings(url=postgres_url), tmp_path) as database:
        await migrate.upgrade(database)
        async with database.engine.connect() as connection:
            rows = await connection.execute(
                sa.text(
                    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace ="
                    " 'public'::regnamespace AND NOT (relrowsecurity AND relforcerowsecurity)"
                )
            )
        assert {row.relname for row in rows} <= {"alembic_version"}


def test_the_newest_revision_is_the_last_of_one_line() -> None:
    scripts = ScriptDirectory.from_config(migrate._config())
    assert scripts.get_heads() == [migrate.newest()]


async def test_a_failing_migration_changes_nothing(tmp_path: Path) -> None:
    async with Database.open(DatabaseSettings(), tmp_path) as database:
        await migrate.upgrade(database, "0001")
        with pytest.raises(Exception, match="no-such"):
            await migrate.upgrade(database, "no-such")
        assert await migrate.current(database) == "0001"
