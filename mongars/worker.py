"""Background work of one process: jobs, and the sweeping that must happen now and then."""

import asyncio
from datetime import timedelta

import structlog

from mongars.body import Body
from mongars.database import SYSTEM
from mongars.errors import Unavailable
from mongars.ids import now
from mongars.jobs import sweep

log = structlog.get_logger()

SWEEP_EVERY_S = 600.0


async def work(body: Body) -> None:
    """Work until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(body.jobs.run())
        tasks.create_task(body.cortex.take_over())
        tasks.create_task(_sweep(body))


async def _sweep(body: Body) -> None:
    """Remove what has had its time."""
    while True:
        at = now()
        try:
            async with body.database.writing(SYSTEM) as w:
                await sweep(w, at - timedelta(days=body.settings.jobs.keep_days))
            await body.hippocampus.sweep(at)
            await body.cortex.sweep(at)
            await body.auth.sweep(at)
        except Unavailable as fault:
            log.warning("worker.sweep_postponed", why=fault.detail)
        await asyncio.sleep(SWEEP_EVERY_S)
