"""A hippocampus over each database, with a worker where jobs are to be done."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mongars import hippocampus
from mongars.bus import Bus
from mongars.database import Database
from mongars.hippocampus import Hippocampus, HippocampusSettings, Message
from mongars.ids import new_id
from mongars.jobs import Job, Jobs, JobsSettings

ANN, BEN = new_id(), new_id()
AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


@dataclass
class World:
    """The organ and what it stands on."""

    database: Database
    bus: Bus
    jobs: Jobs
    organ: Hippocampus

    async def ended(self, job_id: str, owner_id: str = ANN) -> Job:
        """A job, once it has ended."""
        async with asyncio.timeout(30):
            async with contextlib.aclosing(self.jobs.watch(job_id, owner_id)) as states:
                async for job in states:
                    last = job
        return last

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """While a worker does the jobs."""
        worker = asyncio.create_task(self.jobs.run())
        try:
            yield
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    async def talk(self, *texts: str, owner_id: str = ANN, at: datetime = AT, **values: object):  # type: ignore[no-untyped-def]
        """A conversation in which these texts follow each other; it, and its messages."""
        async with self.database.writing(owner_id) as w:
            made = await hippocampus.create_conversation(w, owner_id, at=at, **values)  # type: ignore[arg-type]
            said = chain(made.id, *texts, at=at)
            if said:
                await hippocampus.add_messages(w, owner_id, said)
            return await hippocampus.conversation(w, owner_id, made.id), said


def chain(
    conversation_id: str, *texts: str, after: str | None = None, at: datetime = AT
) -> list[Message]:
    """Messages that follow each other, a second apart."""
    said: list[Message] = []
    for place, text in enumerate(texts):
        parent_id = said[-1].id if said else after
        moment = at + timedelta(seconds=place)
        role = "assistant" if place % 2 else "user"
        said.append(Message(new_id(), conversation_id, parent_id, role, text, moment))  # type: ignore[arg-type]
    return said


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    """Deleted conversations can be restored for an hour, so that no test depends on its speed."""
    async with Bus.open(None) as bus:
        jobs = Jobs(database, bus, JobsSettings(poll_s=0.05))
        settings = HippocampusSettings(restore_s=3600, import_entry_bytes=200_000)
        organ = Hippocampus(database, jobs, bus, tmp_path, settings)
        yield World(database, bus, jobs, organ)
