"""Who performs which turn: leases that are renewed, and turns taken over from who is gone."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

import structlog

from mongars.bus import Bus
from mongars.cortex import store
from mongars.cortex.holder import is_gone
from mongars.cortex.run import Run
from mongars.cortex.turn import Turn
from mongars.database import SYSTEM, Database
from mongars.errors import Unavailable
from mongars.ids import now

log = structlog.get_logger()

FREE: Final = "cortex:free"
"""Told when a process lets turns go that another one may take over."""


class Leases:
    """Keeps this process's turns, and takes over those of processes that are gone."""

    def __init__(
        self, database: Database, bus: Bus, holder: str, lease_s: float, runs: Mapping[str, Run]
    ) -> None:
        self._database = database
        self._bus = bus
        self._holder = holder
        self._runs = runs
        self.lease = timedelta(seconds=lease_s)
        self._renew_s = lease_s * 0.3
        self._look_s = lease_s / 5
        self.leaving = False
        """Set once this process stops: what it lets go is for others, not for itself again."""

    async def keep(self, stop: Callable[[str], None], lose: Callable[[Run], None]) -> None:
        """Renew, in one statement for all turns, until cancelled; learn of stops that got lost."""
        while True:
            await asyncio.sleep(self._renew_s)
            held = [run for run in self._runs.values() if not run.over.is_set()]
            if not held:
                continue
            try:
                async with self._database.writing(SYSTEM) as w:
                    mine = await store.renew(
                        w, self._holder, [run.turn.id for run in held], now() + self.lease
                    )
            except Unavailable as fault:
                log.warning("cortex.database_away", why=fault.detail)
                continue
            for run in held:
                if run.over.is_set():
                    continue
                if run.turn.id not in mine:
                    lose(run)
                elif mine[run.turn.id]:
                    stop(run.turn.id)

    async def take_over(self, resume: Callable[[Turn], None]) -> None:
        """Look for turns that nobody performs any more, until cancelled."""
        async with self._bus.subscribe(FREE) as freed:
            while True:
                try:
                    await self._look(resume)
                except Unavailable as fault:
                    log.warning("cortex.database_away", why=fault.detail)
                await freed.get(self._look_s)

    async def _look(self, resume: Callable[[Turn], None]) -> None:
        async with self._database.reading(SYSTEM) as r:
            held = await store.held(r)
        for row in held:
            if self.leaving:
                return
            if row.id in self._runs or not self._free(row.leased_by, row.leased_until):
                continue
            async with self._database.writing(SYSTEM) as w:
                turn = await store.claim(
                    w, row.id, row.leased_by, row.leased_until, self._holder, now() + self.lease
                )
            if turn is not None:
                log.info("cortex.turn_taken_over", turn_id=turn.id, attempts=turn.attempts)
                resume(turn)

    def _free(self, holder: str | None, until: object) -> bool:
        if holder is None or until is None:
            return True
        # A file has one machine's processes around it: who ended there is known at once.
        gone = self._database.dialect == "sqlite" and is_gone(holder)
        return gone or until < now()  # type: ignore[operator]
