"""Whole transactions in one trip to SQLite's thread, and one commit for all that wait.

aiosqlite makes a trip to another thread for every statement; the begin and the end of a turn are a
dozen statements each, and the trips cost more than the statements do. Here the coroutine that makes
a transaction runs in the connection's own thread from its first statement to the commit: nothing it
awaits ever waits, because its statements are executed on the spot.

What comes while the disk is busy is done together and committed once (group commit): twenty who
speak at the same time wait for two syncs and not for twenty. Each has its savepoint: one that fails
takes nothing with it.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError

Result = TypeVar("Result")
Batch = Sequence[tuple[str, tuple[Any, ...]]]
Work = Callable[[Connection], Any]


class NotAtOnceError(RuntimeError):
    """What was to run at once waited for something."""


class OnTheSpot:
    """A connection whose `execute` may be awaited and never waits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute(self, statement: Any, values: Any = None) -> Any:
        """Run one statement."""
        return self._connection.execute(statement, values)


Taken = list[tuple[Work, "asyncio.Future[Any]"]]


class SqliteThread:
    """One connection that writes, and the thread it lives in.

    `turn_to_write` is held while a transaction runs, so that the writers of one process come one
    after another. A trip costs the event loop two turns and no task.
    """

    def __init__(
        self, url: URL, wait_s: float, pragmas: Sequence[str], turn_to_write: asyncio.Lock
    ) -> None:
        self._url = url.set(drivername="sqlite+pysqlite")
        self._wait_s = wait_s
        self._pragmas = pragmas
        self._turn_to_write = turn_to_write
        self._loop = asyncio.get_running_loop()
        self._trips: SimpleQueue[Taken | None] = SimpleQueue()
        self._thread = Thread(target=self._live, name="sqlite", daemon=True)
        self._thread.start()
        self._waiting: Taken = []
        self._under_way = False
        self._queueing: asyncio.Task[None] | None = None
        self._open: Connection | None = None

    async def transaction(self, work: Callable[[OnTheSpot], Coroutine[Any, Any, Result]]) -> Result:
        """Do this in one transaction, all of it or nothing."""
        result: Result = await self._done(lambda there: _drive(work(OnTheSpot(there))))
        return result

    async def batch(self, statements: Batch) -> list[int]:
        """Run SQL with values by place in one transaction; how many rows each one changed."""

        def run(there: Connection) -> list[int]:
            raw: Any = there.connection.driver_connection
            try:
                return [raw.execute(sql, values).rowcount for sql, values in statements]
            except sqlite3.OperationalError as error:
                raise OperationalError("batch", None, error) from error
            except sqlite3.DatabaseError as error:
                raise DBAPIError("batch", None, error) from error

        changed: list[int] = await self._done(run)
        return changed

    async def close(self) -> None:
        """Do what still waits, close the connection and end the thread."""
        while self._under_way or self._waiting:
            await self._done(lambda _: None)
        self._trips.put(None)
        await asyncio.to_thread(self._thread.join)

    async def _done(self, work: Work) -> Any:
        """Have it done; what has begun comes to its end also when nobody waits for it any more."""
        done: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((work, done))
        self._set_out()
        return await done

    def _set_out(self) -> None:
        """Make a trip with all that waits, now or when it is our turn to write."""
        if self._under_way or not self._waiting:
            return
        self._under_way = True
        if self._turn_to_write.locked():
            self._queueing = asyncio.create_task(self._queue())
            return
        try:
            _drive(self._turn_to_write.acquire())
        except NotAtOnceError:  # somebody was given it and has not woken up yet
            self._queueing = asyncio.create_task(self._queue())
            return
        self._go()

    async def _queue(self) -> None:
        try:
            async with asyncio.timeout(self._wait_s):
                await self._turn_to_write.acquire()
        except TimeoutError as error:
            taken, self._waiting = self._waiting, []
            self._tell(taken, [error] * len(taken))
            self._set_out()
        else:
            self._go()

    def _go(self) -> None:
        taken, self._waiting = self._waiting, []
        self._trips.put(taken)

    def _back(self, taken: Taken, outcomes: Sequence[Any]) -> None:
        self._turn_to_write.release()
        self._tell(taken, outcomes)
        self._set_out()

    def _tell(self, taken: Taken, outcomes: Sequence[Any]) -> None:
        self._under_way = False
        for (_, done), outcome in zip(taken, outcomes, strict=True):
            if done.done():
                continue
            if isinstance(outcome, BaseException):
                done.set_exception(outcome)
            else:
                done.set_result(outcome)

    def _live(self) -> None:
        """In the thread: trip after trip."""
        while (taken := self._trips.get()) is not None:
            try:
                outcomes = self._all([work for work, _ in taken])
            except Exception as error:  # noqa: BLE001 - told to everybody whose work it was
                outcomes = [error] * len(taken)
            self._loop.call_soon_threadsafe(self._back, taken, outcomes)
        if self._open is not None:
            self._open.close()
            self._open.engine.dispose()

    def _all(self, works: Sequence[Work]) -> list[Any]:
        """In the thread: all of these in one transaction; what each gave or raised."""
        connection = self._connected()
        with connection.begin():
            if len(works) == 1:
                return [works[0](connection)]
            return [_guarded(connection, work) for work in works]

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


def _guarded(connection: Connection, work: Work) -> Any:
    """One of several in the same transaction; what it raised is its outcome, and undone."""
    raw: Any = connection.connection.driver_connection
    raw.execute("SAVEPOINT one")
    try:
        outcome = work(connection)
    except Exception as error:
        if not raw.in_transaction:  # SQLite itself undid everything: a full disk
            raise
        raw.execute("ROLLBACK TO one")
        outcome = error
    raw.execute("RELEASE one")
    return outcome


def _drive(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    work.close()
    raise NotAtOnceError("a transaction that runs at once waited for something else")
