"""A job as everybody sees it, and as its handler holds it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

JobState = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Job:
    """One piece of background work; `done` of `total` in `unit` tell how far it is."""

    id: str
    owner_id: str
    kind: str
    state: JobState
    done: int
    total: int | None
    unit: str
    error: Mapping[str, Any] | None
    result: Mapping[str, Any] | None
    created_at: datetime
    ended_at: datetime | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed", "cancelled")


@dataclass
class Work:
    """A job in its handler's hands. A handler may be run twice for the same job."""

    job_id: str
    owner_id: str
    payload: dict[str, Any]
    attempt: int
    tell: Callable[[int, int | None, str | None], Awaitable[None]]
    cancelled: asyncio.Event

    async def progress(self, done: int, total: int | None = None, unit: str | None = None) -> None:
        """Say how far it is. Raises `asyncio.CancelledError` once somebody cancelled the job."""
        await self.tell(done, total, unit)
        if self.cancelled.is_set():
            raise asyncio.CancelledError
