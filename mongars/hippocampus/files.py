"""Files on their way in or out, kept in the database in parts.

So any replica can take a file in, work on it or hand it out, it belongs to its owner like every
other row, and it goes when its owner goes. A part is small, so that nobody waits long for the
database while a large file passes.
"""

from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import sqlalchemy as sa

from mongars.database import SYSTEM, Database, Owner, Writing
from mongars.errors import Missing, TooLarge
from mongars.hippocampus.tables import file_parts, files
from mongars.ids import now

Purpose = Literal["import", "export"]
PART_BYTES: Final = 1024 * 1024
REMOVED_AT_ONCE: Final = 16

_INSERT_PART = sa.insert(file_parts)
_SHOWN = (files.c.id, files.c.name, files.c.bytes, files.c.created_at)


@dataclass(frozen=True)
class File:
    """A whole file."""

    id: str
    name: str
    bytes: int
    created_at: datetime


class Files:
    """Writes, reads and removes files."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(
        self,
        owner_id: str,
        file_id: str,
        purpose: Purpose,
        name: str,
        content: AsyncIterable[bytes],
        most: int,
    ) -> int:
        """Keep what comes; the number of bytes. It can be read once `finish` was called.

        What was there under this id is replaced. Raises `TooLarge` over `most` bytes; then, or
        when the content breaks off, nothing of it stays.
        """
        await self.remove(owner_id, file_id)
        try:
            return await self._write(owner_id, file_id, purpose, name, content, most)
        except BaseException:
            await self.remove(owner_id, file_id)
            raise

    async def _write(
        self,
        owner_id: str,
        file_id: str,
        purpose: Purpose,
        name: str,
        content: AsyncIterable[bytes],
        most: int,
    ) -> int:
        row = {"id": file_id, "owner_id": owner_id, "purpose": purpose, "name": name}
        async with self._database.writing(owner_id) as w:
            await w.execute(
                sa.insert(files).values(**row, bytes=0, complete=False, created_at=now())
            )
        written, number, waiting = 0, 0, bytearray()
        async for piece in content:
            waiting += piece
            if written + len(waiting) > most:
                raise TooLarge(f"The file is larger than {most:,} bytes.")
            while len(waiting) >= PART_BYTES:
                await self._add_part(owner_id, file_id, number, bytes(waiting[:PART_BYTES]))
                del waiting[:PART_BYTES]
                written, number = written + PART_BYTES, number + 1
        await self._add_part(owner_id, file_id, number, bytes(waiting))
        return written + len(waiting)

    async def _add_part(self, owner_id: str, file_id: str, number: int, data: bytes) -> None:
        part = {"file_id": file_id, "owner_id": owner_id, "number": number, "data": data}
        async with self._database.writing(owner_id) as w:
            await w.execute(_INSERT_PART, part)

    async def get(self, owner_id: str, file_id: str, purpose: Purpose) -> File:
        """What is known of a whole file. Raises `Missing`."""
        async with self._database.reading(owner_id) as r:
            row = await r.one(
                sa.select(*_SHOWN).where(
                    files.c.id == file_id,
                    files.c.owner_id == owner_id,
                    files.c.purpose == purpose,
                    files.c.complete,
                )
            )
        if row is None:
            raise Missing("There is no such file, or it is not kept any longer.")
        return File(**row._mapping)

    async def read(self, owner_id: str, file_id: str) -> AsyncGenerator[bytes]:
        """The content, part by part."""
        number = 0
        while True:
            async with self._database.reading(owner_id) as r:
                data = await r.scalar(
                    sa.select(file_parts.c.data).where(
                        file_parts.c.file_id == file_id,
                        file_parts.c.owner_id == owner_id,
                        file_parts.c.number == number,
                    )
                )
            if data is None:
                return
            yield data
            number += 1

    async def remove(self, owner: Owner, file_id: str) -> None:
        """Remove it, a few parts at a time; nothing happens when it is not there."""
        of_owner = [] if owner is SYSTEM else [file_parts.c.owner_id == owner]
        newest = sa.select(sa.func.max(file_parts.c.number)).where(
            file_parts.c.file_id == file_id, *of_owner
        )
        while True:
            async with self._database.writing(owner) as w:
                last = await w.scalar(newest)
                if last is None:
                    mine = [] if owner is SYSTEM else [files.c.owner_id == owner]
                    await w.execute(sa.delete(files).where(files.c.id == file_id, *mine))
                    return
                await w.execute(
                    sa.delete(file_parts).where(
                        file_parts.c.file_id == file_id,
                        file_parts.c.number > last - REMOVED_AT_ONCE,
                        *of_owner,
                    )
                )

    async def sweep(self, before: datetime) -> None:
        """Remove the files that are older than this moment."""
        async with self._database.reading(SYSTEM) as r:
            rows = await r.all(sa.select(files.c.id).where(files.c.created_at < before))
        for row in rows:
            await self.remove(SYSTEM, row.id)


async def finish(w: Writing, owner_id: str, file_id: str, size: int) -> None:
    """A file is whole. Raises `Missing` when it was removed meanwhile."""
    finished = await w.execute(
        sa.update(files)
        .where(files.c.id == file_id, files.c.owner_id == owner_id)
        .values(complete=True, bytes=size)
    )
    if finished.rowcount == 0:
        raise Missing("This file is not kept any longer.")
