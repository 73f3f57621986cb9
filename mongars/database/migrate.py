"""Bringing the database to the schema that this code speaks, and telling whether it is there.

Alembic is loaded only when there is something to migrate: a start that finds today's schema is half
a second quicker without it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from mongars.database.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

VERSIONS = Path(__file__).parent / "migrations" / "versions"


def _config(connection: Connection | None = None) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def newest() -> str:
    """The revision that this code speaks: revisions are files `NNNN_what.py`, one after another."""
    return max(path.name.partition("_")[0] for path in VERSIONS.glob("[0-9]*_*.py"))


async def current(database: Database) -> str | None:
    """The revision that the database is at; `None` when it is empty. Raises `Unavailable`."""

    def told(connection: Connection) -> str | None:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return None if revision is None else str(revision)

    with database.translating():
        async with database.engine.connect() as connection:
            return await connection.run_sync(told)


async def upgrade(database: Database, revision: str = "head") -> tuple[str | None, str | None]:
    """Migrate up to `revision` in one transaction; returns the revision before and after.

    Raises `Unavailable` when the database is away, busy or has no room.
    """
    before = await current(database)
    if before == (newest() if revision == "head" else revision):
        return before, before
    from alembic import command

    with database.translating():
        async with database.engine.begin() as connection:
            await connection.run_sync(lambda sync: command.upgrade(_config(sync), revision))
    return before, await current(database)


async def downgrade(database: Database, revision: str) -> None:
    """Migrate down to `revision` (`base` for nothing at all) in one transaction."""
    from alembic import command

    async with database.engine.begin() as connection:
        await connection.run_sync(lambda sync: command.downgrade(_config(sync), revision))
