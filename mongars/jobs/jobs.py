"""A leased outbox: jobs are rows, a worker holds one by a lease that it keeps renewing.

Whoever enqueues does it in the transaction that makes the job true, so there is never a job without
its cause, nor a cause without its job. A worker that dies stops renewing; another one runs the job
again, so handlers are safe to run twice. See `docs/decisions/001-jobs.md`.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
import structlog
from opentelemetry import metrics

from mongars.bus import Bus
from mongars.database import SYSTEM, Database, Owner, Writing
from mongars.errors import URN, Fault, Missing, Unavailable
from mongars.ids import new_id, now
from mongars.jobs import store
from mongars.jobs.job import Job, Work
from mongars.jobs.settings import JobsSettings

log = structlog.get_logger()

Handler = Callable[[Work], Awaitable[Mapping[str, Any] | None]]

WAKE = "jobs:wake"
CANCEL = "jobs:cancel"
TELL_EVERY_S = 0.25


class Jobs:
    """Enqueue, watch and cancel jobs; `run` is the worker."""

    def __init__(self, database: Database, bus: Bus, settings: JobsSettings) -> None:
        self.settings = settings
        self._database = database
        self._bus = bus
        self._handlers: dict[str, Handler] = {}
        self._seats: dict[str, int] = {}
        self._running: dict[str, tuple[str, Work]] = {}
        self._outcomes = metrics.get_meter("mongars").create_counter(
            "mongars.jobs", description="Jobs that ended, by kind and outcome"
        )

    def register(self, kind: str, handler: Handler, *, at_once: int = 2) -> None:
        """Who does jobs of this kind, and how many of them at the same time in one worker."""
        self._handlers[kind] = handler
        self._seats[kind] = at_once

    async def enqueue(
        self,
        w: Writing,
        kind: str,
        payload: Mapping[str, Any],
        *,
        owner_id: str,
        priority: int = 0,
        run_after: datetime | None = None,
        unique_key: str | None = None,
        unit: str = "",
    ) -> str:
        """Add a job in this transaction; its id.

        With `unique_key`, a job of the same kind and key that still waits is returned instead.
        """
        at = now()
        job_id = await store.add(
            w,
            {
                "id": new_id(),
                "owner_id": owner_id,
                "kind": kind,
                "payload": dict(payload),
                "state": "queued",
                "priority": priority,
                "unique_key": unique_key,
                "attempts": 0,
                "done": 0,
                "unit": unit,
                "cancel_asked": False,
                "created_at": at,
                "run_after": run_after or at,
            },
        )
        if job_id is None:
            assert unique_key is not None
            job_id = await store.waiting(w, kind, unique_key)
            if job_id is None:  # taken by a worker between the two statements
                return await self.enqueue(
                    w,
                    kind,
                    payload,
                    owner_id=owner_id,
                    priority=priority,
                    run_after=run_after,
                    unique_key=unique_key,
                    unit=unit,
                )
            return job_id
        if run_after is None or run_after <= at:  # what is due later is found by a later look
            w.on_commit(lambda: self._bus.publish(WAKE, b""))
        return job_id

    async def get(self, job_id: str, owner: Owner) -> Job:
        """One job. Raises `Missing`."""
        async with self._database.reading(owner) as r:
            job = await store.get(r, job_id, owner)
        if job is None:
            raise Missing("There is no such job.")
        return job

    async def recent(self, owner: Owner, limit: int = 50) -> Sequence[Job]:
        """The newest jobs of an owner, of everybody for `SYSTEM`."""
        async with self._database.reading(owner) as r:
            return await store.recent(r, owner, limit)

    async def cancel(self, job_id: str, owner: Owner) -> Job:
        """Ask a job to end. Raises `Missing`; a job that has ended stays as it is."""
        await self.get(job_id, owner)
        async with self._database.writing(owner) as w:
            await store.cancel(w, job_id, now())
            w.on_commit(lambda: self._told(job_id))
            w.on_commit(lambda: self._bus.publish(CANCEL, job_id.encode()))
        return await self.get(job_id, owner)

    async def watch(self, job_id: str, owner: Owner) -> AsyncGenerator[Job]:
        """The job now and after every change, the last time when it has ended. Raises `Missing`."""
        async with self._bus.subscribe(f"job:{job_id}") as news:
            last = await self.get(job_id, owner)
            yield last
            while not last.ended:
                await news.get(self.settings.poll_s)
                job = await self.get(job_id, owner)
                if job != last:
                    last = job
                    yield job

    async def run(self) -> None:
        """Work until cancelled; jobs that are then unfinished go back to the queue."""
        worker_id = new_id()
        ended = asyncio.Event()
        async with self._bus.subscribe(WAKE) as woken, asyncio.TaskGroup() as tasks:
            renewing = tasks.create_task(self._keep_leases(worker_id))
            try:
                while True:
                    ended.clear()
                    for row in await self._claim(worker_id):
                        task = tasks.create_task(self._perform(worker_id, row))
                        task.add_done_callback(lambda _: ended.set())
                    await self._until_news(woken.get(self.settings.poll_s), ended.wait())
            finally:
                renewing.cancel()

    @staticmethod
    async def _until_news(*news: Any) -> None:
        waiting = [asyncio.ensure_future(one) for one in news]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _claim(self, worker_id: str) -> Sequence[Any]:
        busy: dict[str, int] = {}
        for kind, _ in self._running.values():
            busy[kind] = busy.get(kind, 0) + 1
        claimed: list[Any] = []
        lease = timedelta(seconds=self.settings.lease_s)
        try:
            async with self._database.reading(SYSTEM) as r:
                ready = await store.ready_kinds(r, now())
            for kind in ready & self._seats.keys():
                if (free := self._seats[kind] - busy.get(kind, 0)) > 0:
                    async with self._database.writing(SYSTEM) as w:
                        claimed += await store.claim(w, worker_id, kind, now(), lease, free)
        except Unavailable as fault:
            log.warning("jobs.database_away", why=fault.detail)
        return claimed

    async def _keep_leases(self, worker_id: str) -> None:
        """Renew while running; learn of cancellations; let go of what another one took over."""
        async with self._bus.subscribe(CANCEL) as cancelled:
            while True:
                await cancelled.get(self.settings.lease_s / 4)
                if not self._running:
                    continue
                until = now() + timedelta(seconds=self.settings.lease_s)
                try:
                    async with self._database.writing(SYSTEM) as w:
                        held = await store.renew(w, worker_id, until)
                except Unavailable as fault:
                    log.warning("jobs.database_away", why=fault.detail)
                    continue
                for job_id, (_, work) in list(self._running.items()):
                    if held.get(job_id, True):
                        work.cancelled.set()

    async def _perform(self, worker_id: str, row: Any) -> None:
        work = self._work(worker_id, row)
        self._running[row.id] = (row.kind, work)
        if row.attempts > self.settings.attempts:
            del self._running[row.id]
            error = {
                "type": f"{URN}interrupted",
                "detail": f"The worker ended {self.settings.attempts} times while doing this.",
            }
            await self._finish(worker_id, row, "failed", error=error)
            return
        handling = asyncio.ensure_future(self._handlers[row.kind](work))
        stopping = asyncio.ensure_future(work.cancelled.wait())
        try:
            await asyncio.wait({handling, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not handling.done():
                handling.cancel()
            await self._settle(worker_id, row, work, handling)
        except asyncio.CancelledError:
            handling.cancel()
            await asyncio.gather(handling, return_exceptions=True)
            await self._end(worker_id, row.id, state="queued", leased_by=None, leased_until=None)
            raise
        finally:
            stopping.cancel()
            del self._running[row.id]

    def _work(self, worker_id: str, row: Any) -> Work:
        loop = asyncio.get_running_loop()
        told_at = loop.time() - TELL_EVERY_S

        async def tell(done: int, total: int | None, unit: str | None) -> None:
            nonlocal told_at
            if loop.time() - told_at < TELL_EVERY_S and done != total:
                return
            told_at = loop.time()
            values: dict[str, Any] = {"done": done}
            if total is not None:
                values["total"] = total
            if unit is not None:
                values["unit"] = unit
            await self._end(worker_id, row.id, **values)

        work = Work(row.id, row.owner_id, row.payload, row.attempts, tell, asyncio.Event())
        if row.cancel_asked:
            work.cancelled.set()
        return work

    async def _settle(
        self, worker_id: str, row: Any, work: Work, handling: asyncio.Future[Any]
    ) -> None:
        try:
            result = await handling
        except asyncio.CancelledError:
            if not work.cancelled.is_set():
                raise
            await self._finish(worker_id, row, "cancelled")
        except Fault as fault:
            passing = isinstance(fault, Unavailable) and row.attempts < self.settings.attempts
            if passing:
                pause = timedelta(seconds=self.settings.retry_s * 2 ** (row.attempts - 1))
                await self._end(
                    worker_id, row.id, state="queued", leased_by=None, run_after=now() + pause
                )
            else:
                error = {"type": f"{URN}{fault.problem}", "detail": fault.detail}
                await self._finish(worker_id, row, "failed", error=error)
        except Exception:  # one job's unit of work ends here
            log.exception("jobs.failed", kind=row.kind, job_id=row.id)
            error = {
                "type": f"{URN}internal",
                "detail": "This failed for a reason that stands in the server's log.",
            }
            await self._finish(worker_id, row, "failed", error=error)
        else:
            await self._finish(worker_id, row, "done", result=dict(result or {}))

    async def _finish(self, worker_id: str, row: Any, state: str, **values: Any) -> None:
        self._outcomes.add(1, {"kind": row.kind, "outcome": state})
        await self._end(worker_id, row.id, state=state, ended_at=now(), leased_by=None, **values)

    async def _end(self, worker_id: str, job_id: str, **values: Any) -> None:
        """Write to a held job; a database that is away costs a later repetition, nothing more."""
        with contextlib.suppress(Unavailable):
            async with self._database.writing(SYSTEM) as w:
                await store.update(w, job_id, worker_id, **values)
                w.on_commit(lambda: self._told(job_id))

    def _told(self, job_id: str) -> None:
        self._bus.publish(f"job:{job_id}", orjson.dumps({"job_id": job_id}))
