"""Jobs are done once their transaction is there, survive their worker, tell progress, can be cancelled."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from mongars.bus import Bus
from mongars.database import SYSTEM, Database
from mongars.errors import Invalid, Missing, Unavailable
from mongars.ids import now
from mongars.jobs import Job, Jobs, JobsSettings, Work
from mongars.jobs.tables import jobs as table

FAST = JobsSettings(lease_s=0.4, poll_s=0.05, retry_s=0.01, attempts=3)


@contextlib.asynccontextmanager
async def working(jobs: Jobs) -> AsyncIterator[asyncio.Task[None]]:
    worker = asyncio.create_task(jobs.run())
    try:
        yield worker
    finally:
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker


async def ended(jobs: Jobs, job_id: str) -> Job:
    async with asyncio.timeout(10), contextlib.aclosing(jobs.watch(job_id, SYSTEM)) as states:
        async for job in states:
            if job.ended:
                return job
    raise AssertionError("the stream of a job ended before the job")


async def enqueue(jobs: Jobs, database: Database, **options: Any) -> str:
    async with database.writing("alice") as w:
        return await jobs.enqueue(w, "count", {"n": 3}, owner_id="alice", **options)


async def test_a_job_runs_and_tells_its_progress_and_result(database: Database) -> None:
    jobs = Jobs(database, Bus(None), FAST)

    async def count(work: Work) -> dict[str, Any]:
        await work.progress(work.payload["n"], 3, "steps")
        return {"counted": work.payload["n"]}

    jobs.register("count", count)
    job_id = await enqueue(jobs, database)
    async with working(jobs):
        job = await ended(jobs, job_id)
    assert (job.state, job.done, job.total, job.unit) == ("done", 3, 3, "steps")
    assert job.result == {"counted": 3}


async def test_a_job_of_a_transaction_that_fails_never_was(database: Database) -> None:
    jobs = Jobs(database, Bus(None), FAST)
    with pytest.raises(RuntimeError):
        async with database.writing("alice") as w:
            await jobs.enqueue(w, "count", {}, owner_id="alice")
            raise RuntimeError
    assert await jobs.recent(SYSTEM) == []


async def test_a_job_of_a_silent_worker_is_run_by_another(database: Database) -> None:
    started = asyncio.Event()

    async def hang(work: Work) -> None:
        started.set()
        await asyncio.Event().wait()

    async def count(work: Work) -> dict[str, Any]:
        return {"attempt": work.attempt}

    dying, living = Jobs(database, Bus(None), FAST), Jobs(database, Bus(None), FAST)
    dying.register("count", hang)
    living.register("count", count)
    job_id = await enqueue(dying, database)
    async with working(dying):
        await asyncio.wait_for(started.wait(), 5)
        # What a killed process leaves behind: a lease that nobody renews.
        async with database.writing(SYSTEM) as w:
            await w.execute(sa.update(table).values(leased_by="dead", leased_until=now()))
        async with working(living):
            job = await ended(living, job_id)
    assert (job.state, job.result) == ("done", {"attempt": 2})


async def test_a_worker_that_stops_gives_its_job_back(database: Database) -> None:
    started = asyncio.Event()

    async def hang(work: Work) -> None:
        started.set()
        await asyncio.Event().wait()

    jobs = Jobs(database, Bus(None), FAST)
    jobs.register("count", hang)
    job_id = await enqueue(jobs, database)
    async with working(jobs):
        await asyncio.wait_for(started.wait(), 5)
    assert (await jobs.get(job_id, SYSTEM)).state == "queued"


async def test_a_running_job_can_be_cancelled(database: Database) -> None:
    started = asyncio.Event()

    async def hang(work: Work) -> None:
        started.set()
        await asyncio.Event().wait()

    jobs = Jobs(database, Bus(None), FAST)
    jobs.register("count", hang)
    job_id = await enqueue(jobs, database)
    async with working(jobs):
        await asyncio.wait_for(started.wait(), 5)
        await jobs.cancel(job_id, "alice")
        assert (await ended(jobs, job_id)).state == "cancelled"


async def test_a_waiting_job_can_be_cancelled_and_never_runs(database: Database) -> None:
    jobs = Jobs(database, Bus(None), FAST)
    job_id = await enqueue(jobs, database)
    assert (await jobs.cancel(job_id, "alice")).state == "cancelled"
    with pytest.raises(Missing):
        await jobs.cancel(job_id, "bob")


@pytest.mark.parametrize(
    ("fault", "attempts"),
    [(Unavailable("away"), 3), (Invalid("wrong"), 1)],
    ids=["passing", "final"],
)
async def test_only_a_passing_fault_is_tried_again(
    database: Database, fault: Exception, attempts: int
) -> None:
    tries: list[int] = []

    async def fail(work: Work) -> None:
        tries.append(work.attempt)
        raise fault

    jobs = Jobs(database, Bus(None), FAST)
    jobs.register("count", fail)
    job_id = await enqueue(jobs, database)
    async with working(jobs):
        job = await ended(jobs, job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert len(tries) == attempts


async def test_a_bug_in_a_handler_fails_its_job_only(database: Database) -> None:
    async def fail(work: Work) -> None:
        raise ZeroDivisionError

    async def count(work: Work) -> None:
        return None

    jobs = Jobs(database, Bus(None), FAST)
    jobs.register("count", fail)
    jobs.register("other", count)
    job_id = await enqueue(jobs, database)
    async with database.writing("alice") as w:
        other = await jobs.enqueue(w, "other", {}, owner_id="alice")
    async with working(jobs):
        failed = await ended(jobs, job_id)
        assert failed.error is not None
        assert failed.error["type"] == "urn:mongars:problem:internal"
        assert (await ended(jobs, other)).state == "done"


async def test_an_equal_waiting_job_is_not_enqueued_twice(database: Database) -> None:
    jobs = Jobs(database, Bus(None), FAST)
    first = await enqueue(jobs, database, unique_key="one")
    assert await enqueue(jobs, database, unique_key="one") == first
    assert await enqueue(jobs, database, unique_key="two") != first


async def test_two_workers_never_run_the_same_job(database: Database) -> None:
    ran: list[str] = []

    async def count(work: Work) -> None:
        ran.append(work.job_id)
        await asyncio.sleep(0)

    workers = [Jobs(database, Bus(None), FAST) for _ in range(3)]
    for jobs in workers:
        jobs.register("count", count)
    ids = [await enqueue(workers[0], database) for _ in range(12)]
    async with working(workers[0]), working(workers[1]), working(workers[2]):
        for job_id in ids:
            await ended(workers[0], job_id)
    assert sorted(ran) == sorted(ids)
