"""Whole transactions in one trip to SQLite's thread.

aiosqlite makes a trip to another thread for every statement; the begin and the end of a turn are a
dozen statements each, and the trips cost more than the statements do. Here the coroutine that makes
a transaction runs in the connection's own thread from its first statement to the commit: nothing it
awaits ever waits, because its statements are executed on the spot.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError

Result = TypeVar("Result")
Batch = Sequence[tuple[str, tuple[Any, ...]]]


class OnTheSpot:
    """A connection whose `execute` may be awaited and never waits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute(self, statement: Any, values: Any = None) -> Any:
        """Run one statement."""
        return self._connection.execute(statement, values)


class SqliteThread:
    """One connection that writes, and the thread it lives in."""

    def __init__(self, url: URL, wait_s: float, pragmas: Sequence[str]) -> None:
        self._url = url.set(drivername="sqlite+pysqlite")
        self._wait_s = wait_s
        self._pragmas = pragmas
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._open: Connection | None = None

    async def transaction(self, work: Callable[[OnTheSpot], Coroutine[Any, Any, Result]]) -> Result:
        """Do this in one transaction, all of it or nothing."""

        def there() -> Result:
            connection = self._connected()
            with connection.begin():
                return _drive(work(OnTheSpot(connection)))

        return await self._run(there)

    async def batch(self, statements: Batch) -> list[int]:
        """Run SQL with values by place in one transaction; how many rows each one changed."""

        def there() -> list[int]:
            raw: Any = self._connected().connection.driver_connection
            raw.execute("BEGIN IMMEDIATE")
            try:
                changed = [raw.execute(sql, values).rowcount for sql, values in statements]
                raw.execute("COMMIT")
            except BaseException:
                raw.rollback()
                raise
            return changed

        try:
            return await self._run(there)
        except sqlite3.OperationalError as error:
            raise OperationalError("batch", None, error) from error
        except sqlite3.DatabaseError as error:
            raise DBAPIError("batch", None, error) from error

    async def close(self) -> None:
        """Close the connection and end the thread."""

        def there() -> None:
            if self._open is not None:
                self._open.close()
                self._open.engine.dispose()

        await self._run(there)
        self._thread.shutdown()

    def _run(self, there: Callable[[], Result]) -> Awaitable[Result]:
        # What has begun in the thread comes to its end whether or not somebody still waits.
        return asyncio.get_running_loop().run_in_executor(self._thread, there)

    def _connected(self) -> Connection:
        if self._open is None:
            options = {"timeout": self._wait_s, "isolation_level": None}
            engine = create_engine(self._url, connect_args=options)

            @event.listens_for(engine, "connect")
            def prepare(raw: Any, _record: Any) -> None:
                for pragma in self._pragmas:
                    raw.execute(f"PRAGMA {pragma}")

            @event.listens_for(engine, "begin")
            def begin(connection: Connection) -> None:
                connection.exec_driver_sql("BEGIN IMMEDIATE")

            self._open = engine.connect()
        return self._open


def _drive(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    work.close()
    raise RuntimeError("a transaction that runs at once waited for something else")
