"""What is asked of the table of jobs."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mongars.database import SYSTEM, Owner, Reading, Writing
from mongars.jobs.job import Job
from mongars.jobs.tables import jobs

_SHOWN = (
    jobs.c.id,
    jobs.c.owner_id,
    jobs.c.kind,
    jobs.c.state,
    jobs.c.done,
    jobs.c.total,
    jobs.c.unit,
    jobs.c.error,
    jobs.c.result,
    jobs.c.created_at,
    jobs.c.ended_at,
)


async def add(w: Writing, row: Mapping[str, Any]) -> str | None:
    """Add a job; `None` when one with the same kind and unique key already waits."""
    insert = postgresql.insert if w.dialect == "postgresql" else sqlite.insert
    statement = insert(jobs).values(**row).on_conflict_do_nothing().returning(jobs.c.id)
    return (await w.execute(statement)).scalar()


async def waiting(r: Reading, kind: str, unique_key: str) -> str | None:
    """The id of the waiting job of this kind and key."""
    found = await r.scalar(
        sa.select(jobs.c.id).where(
            jobs.c.kind == kind, jobs.c.unique_key == unique_key, jobs.c.state == "queued"
        )
    )
    return None if found is None else str(found)


async def get(r: Reading, job_id: str, owner: Owner) -> Job | None:
    """One job of this owner (of anybody for `SYSTEM`)."""
    statement = sa.select(*_SHOWN).where(jobs.c.id == job_id)
    if owner is not SYSTEM:
        statement = statement.where(jobs.c.owner_id == owner)
    row = await r.one(statement)
    return None if row is None else Job(**row._mapping)


async def recent(r: Reading, owner: Owner, limit: int) -> Sequence[Job]:
    """The newest jobs first."""
    statement = sa.select(*_SHOWN).order_by(jobs.c.id.desc()).limit(limit)
    if owner is not SYSTEM:
        statement = statement.where(jobs.c.owner_id == owner)
    return [Job(**row._mapping) for row in await r.all(statement)]


def _ready(at: datetime) -> sa.ColumnElement[bool]:
    """Waiting and due, or held by a worker that fell silent."""
    return sa.or_(
        sa.and_(jobs.c.state == "queued", jobs.c.run_after <= at),
        sa.and_(jobs.c.state == "running", jobs.c.leased_until < at),
    )


async def ready_kinds(r: Reading, at: datetime) -> frozenset[str]:
    """The kinds of which something could be done now."""
    rows = await r.all(sa.select(jobs.c.kind).where(_ready(at)).distinct())
    return frozenset(row.kind for row in rows)


async def claim(
    w: Writing, worker_id: str, kind: str, at: datetime, lease: timedelta, free: int
) -> Sequence[sa.Row[Any]]:
    """Take up to `free` jobs that wait or whose worker fell silent, the most urgent first."""
    chosen = (
        sa.select(jobs.c.id)
        .where(_ready(at), jobs.c.kind == kind)
        .order_by(jobs.c.priority.desc(), jobs.c.run_after)
        .limit(free)
    )
    if w.dialect == "postgresql":
        chosen = chosen.with_for_update(skip_locked=True)
    statement = (
        sa.update(jobs)
        .where(jobs.c.id.in_(chosen.scalar_subquery()))
        .values(
            state="running",
            leased_by=worker_id,
            leased_until=at + lease,
            attempts=jobs.c.attempts + 1,
        )
        .returning(
            jobs.c.id,
            jobs.c.owner_id,
            jobs.c.kind,
            jobs.c.payload,
            jobs.c.attempts,
            jobs.c.cancel_asked,
        )
    )
    return (await w.execute(statement)).all()


async def renew(w: Writing, worker_id: str, until: datetime) -> dict[str, bool]:
    """Keep all jobs of this worker; which are still its own, and whether each was cancelled."""
    statement = (
        sa.update(jobs)
        .where(jobs.c.leased_by == worker_id, jobs.c.state == "running")
        .values(leased_until=until)
        .returning(jobs.c.id, jobs.c.cancel_asked)
    )
    return {row.id: row.cancel_asked for row in (await w.execute(statement)).all()}


async def update(w: Writing, job_id: str, worker_id: str, **values: Any) -> bool:
    """Change a job that this worker holds; false when it no longer does."""
    statement = (
        sa.update(jobs)
        .where(jobs.c.id == job_id, jobs.c.leased_by == worker_id, jobs.c.state == "running")
        .values(**values)
    )
    return (await w.execute(statement)).rowcount == 1


async def cancel(w: Writing, job_id: str, at: datetime) -> None:
    """End a waiting job; ask a running one to end."""
    await w.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == "queued")
        .values(state="cancelled", ended_at=at)
    )
    await w.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == "running")
        .values(cancel_asked=True)
    )


async def sweep(w: Writing, before: datetime) -> None:
    """Drop jobs that ended before this moment."""
    await w.execute(sa.delete(jobs).where(jobs.c.ended_at < before))


async def forget_person(w: Writing, owner_id: str) -> None:
    """Drop every job of a person."""
    await w.execute(sa.delete(jobs).where(jobs.c.owner_id == owner_id))
