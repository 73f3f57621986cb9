import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from mongars.bus import Bus
from mongars.database import SYSTEM, Database, DatabaseSettings, migrate
from mongars.jobs import Job, Jobs, JobsSettings
from mongars.llm.download import Downloads
from mongars.llm.fetch import CHUNK_BYTES, Fetcher, Patience
from mongars.llm.hub import Hub
from mongars.llm.jobs import PULL, register
from mongars.llm.library import Library
from mongars.testing.hub import HubRepository, HubServer, Trouble, tiny_gguf

MODEL = tiny_gguf(2 * CHUNK_BYTES)
REPOSITORY = "maker/Small-GGUF"


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    async with HubServer({REPOSITORY: HubRepository({"small-Q4_K_M.gguf": MODEL})}) as hub:
        yield hub


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database.open(DatabaseSettings(), tmp_path) as database:
        await migrate.upgrade(database)
        yield database


@pytest.fixture
async def jobs(database: Database, hub: HubServer, tmp_path: Path) -> AsyncIterator[Jobs]:
    async with aiohttp.ClientSession() as http:
        jobs = Jobs(database, Bus(None), JobsSettings(lease_s=2, poll_s=0.05, retry_s=0.01))
        fetcher = Fetcher(http, reserve_bytes=0, patience=Patience(retries_s=()))
        register(jobs, Downloads(Library(tmp_path), fetcher, Hub(hub.url)))
        worker = asyncio.create_task(jobs.run())
        yield jobs
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker


async def enqueue(jobs: Jobs, database: Database, source: str) -> str:
    async with database.writing("admin") as w:
        return await jobs.enqueue(w, PULL, {"source": source}, owner_id="admin")


async def until(jobs: Jobs, job_id: str, true: Callable[[Job], bool]) -> Job:
    async with asyncio.timeout(10), contextlib.aclosing(jobs.watch(job_id, SYSTEM)) as states:
        async for job in states:
            if true(job):
                return job
    raise AssertionError("the job ended otherwise")


async def test_a_model_is_pulled_in_the_background(jobs, database, tmp_path):
    job = await until(jobs, await enqueue(jobs, database, REPOSITORY), lambda job: job.ended)
    assert (job.state, job.done, job.total, job.unit) == ("done", len(MODEL), len(MODEL), "bytes")
    assert job.result is not None
    assert job.result["model"] == "embedded/small-Q4_K_M"
    assert (tmp_path / "models" / "small-Q4_K_M.gguf").read_bytes() == MODEL


async def test_a_cancelled_pull_keeps_what_came(jobs, database, hub, tmp_path):
    hub.trouble = Trouble(wait_after_bytes=CHUNK_BYTES)
    job_id = await enqueue(jobs, database, REPOSITORY)
    await until(jobs, job_id, lambda job: job.done > 0)
    await jobs.cancel(job_id, SYSTEM)
    job = await until(jobs, job_id, lambda job: job.ended)
    assert job.state == "cancelled"
    assert (tmp_path / "models" / ".small-Q4_K_M.gguf.part").stat().st_size > 0


async def test_a_refused_pull_says_why(jobs, database):
    job = await until(
        jobs, await enqueue(jobs, database, "maker/Nothing-GGUF"), lambda job: job.ended
    )
    assert job.state == "failed"
    assert job.error is not None
    assert job.error["type"] == "urn:mongars:problem:missing"
