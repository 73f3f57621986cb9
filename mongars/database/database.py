"""Transactions for reading and for writing, each in the name of an owner.

SQLite runs in WAL mode: any number of readers see a steady snapshot while one writer at a time
works (`BEGIN IMMEDIATE`, first come, first served inside one process). PostgreSQL carries the
owner in the transaction (`SET LOCAL`), where row level security reads it; see `rls.py`.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import Any, Final, Literal, NewType, TypeVar

from sqlalchemy import CursorResult, Executable, Row, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
)
from sqlalchemy.exc import (
    TimeoutError as PoolTimeoutError,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from mongars.database.at_once import Batch, SqliteThread
from mongars.database.settings import DatabaseSettings
from mongars.database.sqlite import DRIVER
from mongars.errors import NotConfigured, Unavailable

System = NewType("System", str)
SYSTEM: Final = System("")
"""The owner of work that crosses people: sign-in, claiming jobs, taking over turns."""

Owner = str | System
Result = TypeVar("Result")
Dialect = Literal["sqlite", "postgresql"]
Statement = Executable


class Reading:
    """A transaction that reads, in the name of `owner`."""

    def __init__(self, connection: AsyncConnection, owner: Owner, dialect: Dialect) -> None:
        self.connection = connection
        self.owner = owner
        self.dialect = dialect

    async def execute(
        self,
        statement: Statement,
        values: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> CursorResult[Any]:
        """Run one statement."""
        return await self.connection.execute(statement, values)

    async def one(self, statement: Statement) -> Row[Any] | None:
        """The first row, or nothing."""
        return (await self.connection.execute(statement)).first()

    async def all(self, statement: Statement) -> Sequence[Row[Any]]:
        """Every row."""
        return (await self.connection.execute(statement)).all()

    async def scalar(self, statement: Statement) -> Any:
        """The first column of the first row, or `None`."""
        return (await self.connection.execute(statement)).scalar()


class Writing(Reading):
    """A transaction that may also write; what must follow it is told with `on_commit`."""

    def __init__(self, connection: AsyncConnection, owner: Owner, dialect: Dialect) -> None:
        super().__init__(connection, owner, dialect)
        self.after: list[Callable[[], None]] = []

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Call this once the transaction is on disk, and only then; it must not raise."""
        self.after.append(callback)


class Database:
    """The one door to what lasts."""

    def __init__(
        self,
        url: URL,
        readers: AsyncEngine,
        writers: AsyncEngine,
        dialect: Dialect,
        wait_s: float = 5.0,
    ) -> None:
        self.url = url
        self.dialect: Dialect = dialect
        self._readers = readers
        self._writers = writers
        self._roles: bool | None = None
        self._wait_s = wait_s
        self._writing = asyncio.Lock()
        self._direct: SqliteThread | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: DatabaseSettings, data_dir: Path) -> AsyncGenerator["Database"]:
        """Open it; nothing is asked of the server before the first transaction."""
        url = database_url(settings, data_dir)
        dialect: Dialect = "sqlite" if url.get_backend_name() == "sqlite" else "postgresql"
        if dialect == "sqlite":
            readers = _sqlite_engine(url, settings, size=settings.readers, begin="BEGIN")
            writers = _sqlite_engine(url, settings, size=1, begin="BEGIN IMMEDIATE")
        else:
            readers = writers = create_async_engine(
                url,
                pool_size=settings.connections,
                max_overflow=0,
                pool_timeout=settings.wait_s,
                pool_pre_ping=True,
                connect_args={"timeout": settings.wait_s},
            )
        database = cls(url, readers, writers, dialect, settings.wait_s)
        try:
            yield database
        finally:
            if database._direct is not None:
                await database._direct.close()
            await readers.dispose()
            if writers is not readers:
                await writers.dispose()

    @contextlib.asynccontextmanager
    async def reading(self, owner: Owner) -> AsyncIterator[Reading]:
        """A transaction that reads. Raises `Unavailable` when the database does not answer."""
        with _translated():
            async with self._readers.connect() as connection:
                await self._bind_owner(connection, owner)
                yield Reading(connection, owner, self.dialect)

    @contextlib.asynccontextmanager
    async def writing(self, owner: Owner) -> AsyncIterator[Writing]:
        """A transaction that writes: all of it or nothing. Raises `Unavailable`."""
        with _translated():
            async with self._turn_to_write(), self._writers.begin() as connection:
                await self._bind_owner(connection, owner)
                transaction = Writing(connection, owner, self.dialect)
                yield transaction
        for callback in transaction.after:
            callback()

    @contextlib.asynccontextmanager
    async def _turn_to_write(self) -> AsyncIterator[None]:
        """SQLite has one writer: those of this process come one after another, in order."""
        if self.dialect != "sqlite":
            yield
            return
        try:
            async with asyncio.timeout(self._wait_s):
                await self._writing.acquire()
        except TimeoutError as error:
            raise _busy() from error
        try:
            yield
        finally:
            self._writing.release()

    async def at_once(
        self, owner: Owner, work: Callable[[Writing], Coroutine[Any, Any, Result]]
    ) -> Result:
        """Do `work` in one transaction that writes, and await nothing but its statements in it.

        For the hot path of a turn: on SQLite all of it is one trip to the connection's thread.
        What has begun comes to its end also when the caller is cancelled. Raises `Unavailable`.
        """
        if self.dialect != "sqlite":
            async with self.writing(owner) as w:
                return await work(w)
        after: list[Callable[[], None]] = []

        async def whole(connection: Any) -> Result:
            w = Writing(connection, owner, "sqlite")
            result = await work(w)
            after.extend(w.after)
            return result

        with _translated():
            result = await self._in_thread().transaction(whole)
        for callback in after:
            callback()
        return result

    async def batch(self, owner: Owner, statements: Batch) -> list[int]:
        """Run SQL with positional values in one transaction; the rows that each changed.

        As `at_once`, without SQLAlchemy. Places are written `?1` for SQLite and `$1` for
        PostgreSQL. Raises `Unavailable`.
        """
        with _translated():
            if self.dialect == "sqlite":
                return await self._in_thread().batch(statements)
            async with self._writers.connect() as connection:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                await self._bind_owner(connection, owner)
                changed = await _postgres_batch(driver, statements)
                await connection.commit()
                return changed

    def _in_thread(self) -> SqliteThread:
        if self._direct is None:
            self._direct = SqliteThread(self.url, self._wait_s, PRAGMAS, self._writing)
        return self._direct

    @contextlib.contextmanager
    def translating(self) -> Iterator[None]:
        """For work on `engine`: what a database that is away raises becomes `Unavailable`."""
        with _translated():
            yield

    @property
    def engine(self) -> AsyncEngine:
        """The engine that writes, for migrations and backup."""
        return self._writers

    async def _bind_owner(self, connection: AsyncConnection, owner: Owner) -> None:
        """Tell PostgreSQL in whose name this transaction runs (until its end)."""
        if self.dialect != "postgresql":
            return
        if self._roles is None:
            found = await connection.scalar(
                text(
                    "SELECT count(*) FROM pg_roles WHERE rolname IN "
                    "('mongars_people', 'mongars_jobs') AND pg_has_role(current_user, oid, CASE WHEN "
                    "current_setting('server_version_num')::int >= 160000 THEN 'SET' "
                    "ELSE 'MEMBER' END)"
                )
            )
            self._roles = found == 2
        system = owner is SYSTEM
        owner_setting = (
            "set_config('mongars.owner', :owner, true), set_config('mongars.system', :system, true)"
        )
        role = ", set_config('role', :role, true)" if self._roles else ""
        values = {"owner": "" if system else owner, "system": "on" if system else "off"}
        if self._roles:
            values["role"] = "mongars_jobs" if system else "mongars_people"
        await connection.execute(text(f"SELECT {owner_setting}{role}"), values)


def database_url(settings: DatabaseSettings, data_dir: Path) -> URL:
    """The SQLAlchemy address. Raises `NotConfigured` for anything but PostgreSQL and SQLite."""
    if settings.url is None:
        return URL.create(DRIVER, database=str(data_dir / "mongars.db"))
    try:
        url = make_url(settings.url.get_secret_value())
    except Exception as error:
        raise NotConfigured(
            "MONGARS_DATABASE__URL cannot be read; it looks like postgresql://user:password@host/name"
        ) from error
    match url.get_backend_name():
        case "postgresql":
            return url.set(drivername="postgresql+asyncpg")
        case "sqlite":
            return url.set(drivername=DRIVER)
        case other:
            raise NotConfigured(
                f"MONGARS_DATABASE__URL names {other!r}; monGARS keeps its data in postgresql:// or SQLite"
            )


PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",  # a commit is on disk (fsync of the WAL) before anybody is told about it
    "foreign_keys=ON",
    "secure_delete=ON",
    "temp_store=MEMORY",
)


async def _postgres_batch(driver: Any, statements: Batch) -> list[int]:
    import asyncpg

    try:
        told = [await driver.execute(sql, *values) for sql, values in statements]
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
        raise InterfaceError("batch", None, error) from error
    except asyncpg.PostgresError as error:
        raise DBAPIError("batch", None, error) from error
    return [int(one.rpartition(" ")[2]) for one in told]


def _sqlite_engine(url: URL, settings: DatabaseSettings, *, size: int, begin: str) -> AsyncEngine:
    engine = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=settings.wait_s,
        pool_reset_on_return=None,
        connect_args={"timeout": settings.wait_s, "isolation_level": None},
    )

    @event.listens_for(engine.sync_engine, "reset")
    def reset(connection: Any, _record: Any, state: Any) -> None:
        # What was cut off half-way; after an ordinary end a trip for nothing is saved.
        if not state.terminate_only and connection.driver_connection.in_transaction:
            connection.rollback()

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def start(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Foreign errors of a database that is away become `Unavailable`; wrong statements stay bugs."""
    try:
        yield
    except PoolTimeoutError as error:
        raise _busy() from error
    except (OperationalError, InterfaceError, InternalError, DBAPIError) as error:
        if (fault := _fault(error)) is None:
            raise
        raise fault from error
    except (TimeoutError, ConnectionError) as error:
        raise Unavailable(
            "The database does not answer.", slug="database-unavailable", retry_after_s=5
        ) from error


NOT_MIGRATED = frozenset({"42P01", "42703"})
"""PostgreSQL knows no such table, no such column: it waits for `mongars migrate`."""


def _fault(error: DBAPIError) -> Unavailable | None:
    origin = error.orig
    said = str(origin).lower()
    if "disk is full" in said or "no space left" in said or "disk full" in said:
        return Unavailable(
            "The disk is full; nothing was stored. Free some space and try again.",
            slug="disk-full",
            retry_after_s=30,
        )
    if "locked" in said or "deadlock" in said:
        return _busy()
    if getattr(origin, "sqlstate", None) in NOT_MIGRATED:
        return Unavailable(
            "The database's schema is not today's; run `mongars migrate`.",
            slug="database-unavailable",
            retry_after_s=5,
        )
    if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError):
        schema = "no such table" in said or "no such column" in said
        return None if schema else _away()
    if isinstance(origin, sqlite3.DatabaseError) and "malformed" in said:
        return Unavailable(
            "The database file is damaged; `mongars doctor` says more.", slug="database-damaged"
        )
    return None


def _busy() -> Unavailable:
    return Unavailable(
        "The database is busy; try again in a moment.", slug="database-busy", retry_after_s=2
    )


def _away() -> Unavailable:
    return Unavailable(
        "The database does not answer.", slug="database-unavailable", retry_after_s=5
    )
