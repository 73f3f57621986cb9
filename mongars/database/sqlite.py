"""SQLite for SQLAlchemy with one trip to the connection's thread per statement.

aiosqlite runs each call in the thread of its connection, and SQLAlchemy's dialect makes four of
them for a statement: open a cursor, execute, fetch, close. A turn is a few dozen statements, and
the trips cost more than the statements. Here a statement, its rows and its end are one trip; a
transaction takes half the CPU. Everything else is SQLAlchemy's own dialect.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
    SQLiteDialect_aiosqlite,
)
from sqlalchemy.util import await_only

DRIVER = "sqlite+onetrip"


class OneTripCursor(AsyncAdapt_aiosqlite_cursor):
    """A cursor whose rows are there when `execute` returns."""

    __slots__ = ("_description", "_lastrowid", "_rowcount")

    def __init__(self, adapt_connection: Any) -> None:
        self._adapt_connection = adapt_connection
        self._connection = adapt_connection._connection
        self._rows = deque()
        self._description: Any = None
        self._rowcount = -1
        self._lastrowid: Any = None

    @property
    def description(self) -> Any:
        """The columns of the last statement."""
        return self._description

    @property
    def rowcount(self) -> int:
        """Rows that the last statement changed."""
        return self._rowcount

    @property
    def lastrowid(self) -> Any:
        """The row that the last statement added."""
        return self._lastrowid

    @property
    def arraysize(self) -> int:
        """How many rows `fetchmany` gives when not told."""
        return 1

    @arraysize.setter
    def arraysize(self, value: int) -> None: ...

    def execute(self, operation: Any, parameters: Any = None) -> Any:
        """Run one statement and take its rows."""
        self._trip("execute", operation, () if parameters is None else parameters)

    def executemany(self, operation: Any, seq_of_parameters: Any) -> Any:
        """Run one statement for each set of values."""
        self._trip("executemany", operation, seq_of_parameters)

    def _trip(self, method: str, operation: Any, parameters: Any) -> None:
        connection = self._connection

        def there() -> tuple[Any, int, Any, Sequence[Any]]:
            cursor = getattr(connection._conn, method)(operation, parameters)
            try:
                rows = cursor.fetchall() if cursor.description else ()
                return cursor.description, cursor.rowcount, cursor.lastrowid, rows
            finally:
                cursor.close()

        try:
            self._description, self._rowcount, self._lastrowid, rows = await_only(
                connection._execute(there)
            )
        except Exception as error:  # noqa: BLE001 - the dialect's own translation follows
            self._adapt_connection._handle_exception(error)
        self._rows = deque(rows)

    def close(self) -> None:
        """Nothing is open any more."""
        self._rows.clear()

    async def _async_soft_close(self) -> None:
        """Nothing is open any more; the rows stay."""


class OneTripConnection(AsyncAdapt_aiosqlite_connection):
    """A connection with such cursors."""

    __slots__ = ()

    _cursor_cls = OneTripCursor


class OneTripModule(AsyncAdapt_aiosqlite_dbapi):
    """The driver, as SQLAlchemy meets it."""

    def connect(self, *args: Any, **options: Any) -> AsyncAdapt_aiosqlite_connection:
        """Connect as the original does, and wrap it in ours."""
        original = super().connect(*args, **options)
        return OneTripConnection(self, original._connection)


class OneTripDialect(SQLiteDialect_aiosqlite):
    """The dialect."""

    driver = "onetrip"
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> AsyncAdapt_aiosqlite_dbapi:
        """The driver."""
        import sqlite3

        import aiosqlite

        return OneTripModule(aiosqlite, sqlite3)


dialect = OneTripDialect
registry.register("sqlite.onetrip", __name__, "OneTripDialect")
