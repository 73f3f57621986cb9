"""Entries in one SQLite file of their own, bounded by bytes; they outlive a restart.

Values lie there as they are, each with its checksum; forgotten ones are overwritten
(`secure_delete`) and leave the write-ahead log too. A file that cannot be read as what it should be
is removed and made anew. Several processes may share the file; one that removes it is noticed by
the others, which then open the new one.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from mongars.cache.entry import TAG_BYTES, Entry, checksum
from mongars.errors import Unavailable

FILE = "cache.sqlite3"
VERSION = 1
OVERHEAD_BYTES = 300
"""What a row costs beside its value: key, tags, their indexes."""
TOUCH_S = 600.0
"""How old the note of an entry's last use may be, in seconds, before it is written again."""
PUTS_BETWEEN_SWEEPS = 64
BUSY_S = 1.0

_SCHEMA = (
    "CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, checksum BLOB NOT NULL, "
    "tags BLOB NOT NULL, expires_at REAL NOT NULL, used_at REAL NOT NULL, bytes INTEGER NOT NULL)",
    "CREATE INDEX entries_by_end ON entries (expires_at)",
    "CREATE INDEX entries_by_use ON entries (used_at, bytes)",
    "CREATE TABLE tags (tag BLOB NOT NULL, key BLOB NOT NULL, PRIMARY KEY (tag, key)) "
    "WITHOUT ROWID",
    "CREATE INDEX tags_by_key ON tags (key)",
    "CREATE TRIGGER entry_gone AFTER DELETE ON entries "
    "BEGIN DELETE FROM tags WHERE key = old.key; END",
    f"PRAGMA user_version = {VERSION}",
)

_T = TypeVar("_T")


class DiskTier:
    """The tier that lasts. Its fault is always `Unavailable`: no space, no permission, locked."""

    name = "disk"

    def __init__(
        self, folder: Path, limit_bytes: int, clock: Callable[[], float], thread: ThreadPoolExecutor
    ) -> None:
        self._path = folder / FILE
        self._limit = limit_bytes
        self._clock = clock
        self._thread = thread
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._puts = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, folder: Path, limit_bytes: int, clock: Callable[[], float]
    ) -> AsyncGenerator["DiskTier"]:
        """Open it; the file is opened, and made where it is missing, at the first use."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="cache-disk") as thread:
            tier = cls(folder, limit_bytes, clock, thread)
            try:
                yield tier
            finally:
                await asyncio.get_running_loop().run_in_executor(thread, tier._close)

    async def get(self, key: bytes) -> Entry | None:
        """The entry, unless it is not there or has ended; a spoilt one is removed."""
        return await self._run(lambda db: self._get(db, key), spoilt=None)

    async def put(self, key: bytes, entry: Entry) -> None:
        """Keep an entry; a value larger than a quarter of the tier is not kept."""
        if (len(entry.value) + OVERHEAD_BYTES) * 4 <= self._limit:
            await self._run(lambda db: self._put(db, key, entry), spoilt=None)

    async def forget(self, tag: bytes) -> int:
        """Remove every entry with this tag, from the log of writes too."""
        return await self._run(lambda db: self._forget(db, tag), spoilt=0)

    # -- in the thread ---------------------------------------------------------------------------

    def _get(self, db: sqlite3.Connection, key: bytes) -> Entry | None:
        now = self._clock()
        row = db.execute(
            "SELECT value, checksum, tags, expires_at, used_at FROM entries WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        value, check, tags, expires_at, used_at = row
        if expires_at <= now or check != checksum(tags + value):
            db.execute("DELETE FROM entries WHERE key = ?", (key,))
            return None
        if now - used_at > TOUCH_S:
            db.execute("UPDATE entries SET used_at = ? WHERE key = ?", (now, key))
        split = tuple(tags[at : at + TAG_BYTES] for at in range(0, len(tags), TAG_BYTES))
        return Entry(value, expires_at, split)

    def _put(self, db: sqlite3.Connection, key: bytes, entry: Entry) -> None:
        now = self._clock()
        tags = b"".join(entry.tags)
        cost = len(entry.value) + OVERHEAD_BYTES
        check = checksum(tags + entry.value)
        row = (key, entry.value, check, tags, entry.expires_at, now, cost)
        with _transaction(db):
            db.execute("DELETE FROM entries WHERE key = ?", (key,))
            db.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            db.executemany("INSERT INTO tags VALUES (?, ?)", [(tag, key) for tag in entry.tags])
            self._puts += 1
            if self._puts % PUTS_BETWEEN_SWEEPS == 1 or cost * PUTS_BETWEEN_SWEEPS > self._limit:
                self._sweep(db, now)

    def _sweep(self, db: sqlite3.Connection, now: float) -> None:
        """Remove what has ended; over the limit, what was not used for longest, down to 9/10."""
        db.execute("DELETE FROM entries WHERE expires_at <= ?", (now,))
        held = db.execute("SELECT coalesce(sum(bytes), 0) FROM entries").fetchone()[0]
        if held <= self._limit:
            return
        db.execute(
            "DELETE FROM entries WHERE key IN (SELECT key FROM (SELECT key, sum(bytes) OVER "
            "(ORDER BY used_at, rowid ROWS UNBOUNDED PRECEDING) - bytes AS before FROM entries) "
            "WHERE before < ?)",
            (held - self._limit * 9 // 10,),
        )

    def _forget(self, db: sqlite3.Connection, tag: bytes) -> int:
        with _transaction(db):
            gone = db.execute(
                "DELETE FROM entries WHERE key IN (SELECT key FROM tags WHERE tag = ?)", (tag,)
            ).rowcount
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return int(gone)

    # -- the file --------------------------------------------------------------------------------

    async def _run(self, work: Callable[[sqlite3.Connection], _T], *, spoilt: _T) -> _T:
        """Do this in the thread; the answer is `spoilt` where the file could not be read."""

        def run() -> _T:
            try:
                return work(self._opened())
            except sqlite3.DatabaseError as error:
                if _is_spoilt(error):
                    self._remove()
                    return spoilt
                raise

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, run)
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"The cache on disk does not answer: {error}") from error

    def _opened(self) -> sqlite3.Connection:
        """The connection to the file that lies there now."""
        if self._connection is not None:
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_ino == self._inode:
                    return self._connection
            self._close()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        os.fchmod(made, 0o600)
        self._inode = os.fstat(made).st_ino
        os.close(made)
        db = sqlite3.connect(
            self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(db)
        except BaseException:
            db.close()
            raise
        self._connection = db
        return db

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _remove(self) -> None:
        """Remove the file, unless another process has already put a new one there."""
        self._close()
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
                    self._path.with_name(name).unlink(missing_ok=True)


class _OtherVersion(sqlite3.DatabaseError):
    """The file was written by another version of this tier."""


def _is_spoilt(error: sqlite3.DatabaseError) -> bool:
    """Whether the file itself is the trouble, and not the room, the rights or a lock."""
    if isinstance(error, _OtherVersion):
        return True
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL").fetchall()
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA secure_delete = ON").fetchall()
    with _transaction(db):
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _SCHEMA:
                db.execute(statement)
        elif version != VERSION:
            raise _OtherVersion(f"version {version}")


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
