"""Background work, as its owner sees it."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Literal

from fastapi import APIRouter, Response

from mongars.api.dependencies import BodyDep
from mongars.api.security import Person
from mongars.api.shapes import Page, Time, Told
from mongars.api.sse import EVENTS, EventStream, stream
from mongars.api.strict import StrictRoute
from mongars.auth import Caller
from mongars.database import SYSTEM, Owner
from mongars.jobs import Job

router = APIRouter(tags=["jobs"], route_class=StrictRoute)


class JobTold(Told):
    """One piece of background work; `done` of `total` in `unit` tell how far it is."""

    id: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    done: int
    total: int | None
    unit: str
    error: dict[str, Any] | None
    result: dict[str, Any] | None
    created_at: Time
    ended_at: Time | None


def _owner(caller: Caller) -> Owner:
    """An admin looks after everybody's jobs: they tell kinds and numbers, not contents."""
    return SYSTEM if caller.role == "admin" and "admin" in caller.scopes else caller.id


def _told(job: Job, caller: Caller) -> JobTold:
    told = JobTold.model_validate(job)
    return told if job.owner_id == caller.id else told.model_copy(update={"result": None})


@router.get("/jobs")
async def list_jobs(body: BodyDep, caller: Person) -> Page[JobTold]:
    """The newest jobs of one's own."""
    jobs = await body.jobs.recent(caller.id)
    return Page(items=[JobTold.model_validate(job) for job in jobs])


@router.get("/jobs/{job_id}")
async def get_job(job_id: str, body: BodyDep, caller: Person) -> JobTold:
    """One job: state and progress."""
    return _told(await body.jobs.get(job_id, _owner(caller)), caller)


@router.post("/jobs/{job_id}/cancel")
async def cancel_job(job_id: str, body: BodyDep, caller: Person) -> JobTold:
    """Ask a job to end; one that has ended stays as it is."""
    return _told(await body.jobs.cancel(job_id, _owner(caller)), caller)


@router.get("/jobs/{job_id}/events", response_class=Response, responses=EVENTS)
async def watch_job(job_id: str, body: BodyDep, caller: Person) -> EventStream:
    """A `job` event now and after every change; the stream ends with the job."""
    owner = _owner(caller)
    await body.jobs.get(job_id, owner)

    async def events() -> AsyncGenerator[bytes]:
        async with contextlib.aclosing(body.jobs.watch(job_id, owner)) as states:
            async for job in states:
                data = _told(job, caller).model_dump_json()
                yield f"event: job\ndata: {data}\n\n".encode()

    return stream(events())
