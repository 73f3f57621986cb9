"""Writes what happens in all turns to disk, in groups, and tells it only after that.

The first event after a quiet while is written at once; then one transaction every `group_ms` holds
the events of all turns. Every write of a turn asks whether this process still holds it: one that
was silent for too long and lost its turns writes nothing (fencing).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from opentelemetry import metrics

from mongars.bus import Bus
from mongars.cortex import store
from mongars.cortex.events import Done, Failed, Happening, Progress, Queued, Started, join
from mongars.cortex.run import Group, Run
from mongars.database import SYSTEM, Database, Writing
from mongars.errors import Fault, Unavailable
from mongars.hippocampus import close_message
from mongars.ids import now

log = structlog.get_logger()

LAZY_S = 0.03
"""How long an event that nobody waits for may wait for company, in seconds."""
SLACK_S = 0.004
RETRY_S = 0.5

_SQLITE_EVENTS = (
    "INSERT INTO turn_events (turn_id, first_seq, last_seq, owner_id, events)"
    " SELECT id, ?3, ?4, owner_id, ?5 FROM turns"
    " WHERE id = ?1 AND leased_by = ?2 AND state IN ('queued', 'running')"
    " ON CONFLICT (turn_id, first_seq) DO UPDATE SET last_seq = ?4, events = ?5"
)
_POSTGRES_EVENTS = (
    "INSERT INTO turn_events (turn_id, first_seq, last_seq, owner_id, events)"
    " SELECT id, $3::integer, $4::integer, owner_id, $5::text FROM turns"
    " WHERE id = $1 AND leased_by = $2 AND state IN ('queued', 'running') FOR SHARE"
    " ON CONFLICT (turn_id, first_seq) DO UPDATE"
    " SET last_seq = excluded.last_seq, events = excluded.events"
)
# A transaction whose end got lost is written again: the same events, and perhaps more behind them.
_STARTED = (
    "UPDATE turns SET state = 'running', started_at = {3}, model = {4}"
    " WHERE id = {1} AND leased_by = {2} AND state IN ('queued', 'running')"
)

Then = Callable[[Writing, Run], Awaitable[None]]


def topic(turn_id: str) -> str:
    """Where the events of a turn are told."""
    return f"turn:{turn_id}"


class Recorder:
    """The one that writes, for every turn of this process."""

    def __init__(
        self, database: Database, bus: Bus, holder: str, group_s: float, at_the_end: Then
    ) -> None:
        self._database = database
        self._bus = bus
        self._holder = holder
        self._group_s = group_s
        self._at_the_end = at_the_end
        self._dirty: dict[Run, None] = {}
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._last = 0.0
        mark = "?" if database.dialect == "sqlite" else "$"
        self._started = _STARTED.format(*(f"{mark}{n}" for n in range(5)))
        self._events = _SQLITE_EVENTS if database.dialect == "sqlite" else _POSTGRES_EVENTS
        self._outcomes = metrics.get_meter("mongars").create_counter(
            "mongars.turns", description="Turns that ended, by outcome"
        )

    def add(self, run: Run, happening: Happening) -> None:
        """Something happened; it will be on disk and told within a moment."""
        run.happen(happening)
        self._dirty[run] = None
        loop = asyncio.get_running_loop()
        if isinstance(happening, Started | Progress):
            self._schedule(loop.time() + LAZY_S)
        elif isinstance(happening, Done | Failed | Queued) or run.first_token_s is None:
            self._schedule(loop.time())
        else:
            # Who comes when the group is nearly full has it written: one waking less than a timer.
            at = loop.time()
            due = self._last + self._group_s
            self._schedule(at if at > due - SLACK_S else due + SLACK_S)

    def flush(self, run: Run) -> None:
        """Write what is there of this turn now."""
        self._dirty[run] = None
        self._schedule(asyncio.get_running_loop().time())

    def _schedule(self, at: float) -> None:
        if self._timer is not None:
            if self._due_at <= at:
                return
            self._timer.cancel()
        self._due_at = at
        self._timer = asyncio.get_running_loop().call_at(at, self._due)

    def _due(self) -> None:
        self._timer = None
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._dirty:
                continue
            self._last = asyncio.get_running_loop().time()
            runs = list(self._dirty)
            self._dirty.clear()
            try:
                await self._write(runs)
            except Unavailable as fault:
                log.warning("cortex.database_away", why=fault.detail, turns=len(runs))
                self._dirty.update(dict.fromkeys(runs))
                self._schedule(asyncio.get_running_loop().time() + RETRY_S)
            except Exception:  # one round of writing ends here; its turns are taken over later
                log.exception("cortex.not_written", turns=len(runs))
                for run in runs:
                    self.lose(run)

    async def _write(self, runs: Sequence[Run]) -> None:
        going = [run for run in runs if run.ending is None and not run.over.is_set()]
        ending = [run for run in runs if run.ending is not None and not run.over.is_set()]
        try:
            if going:
                await self._write_groups(going)
        finally:
            for run in ending:
                await self._write_end(run)

    async def _write_groups(self, runs: Sequence[Run]) -> None:
        statements: list[tuple[str, tuple[Any, ...]]] = []
        written: list[tuple[Run, Group, int]] = []
        for run in runs:
            group = run.take()
            if group is None:
                continue
            if run.started and not run.started_kept:
                statements.append((self._started, self._started_values(run)))
            written.append((run, group, len(statements)))
            text = join(group.lines).decode()
            values = (run.turn.id, self._holder, group.first_seq, group.last_seq, text)
            statements.append((self._events, values))
        if not statements:
            return
        try:
            changed = await self._database.batch(SYSTEM, statements)
        except BaseException:
            for run, group, _ in written:
                run.unsaved = group
            raise
        for run, group, place in written:
            run.started_kept = run.started
            if changed[place]:
                self._tell(run, group)
            else:
                self.lose(run)

    def _started_values(self, run: Run) -> tuple[Any, ...]:
        at = now()
        shown = at.replace(tzinfo=None).isoformat(" ", "microseconds")
        moment = shown if self._database.dialect == "sqlite" else at
        return (run.turn.id, self._holder, moment, run.model)

    async def _write_end(self, run: Run) -> None:
        ending = run.ending
        assert ending is not None
        group = run.take()
        assert group is not None

        async def end(w: Writing) -> bool:
            mine = await store.end(
                w,
                run.turn.id,
                self._holder,
                state=ending.turn_state,
                error=ending.error,
                ended_at=now(),
                model=run.model,
                details=dict(ending.turn_details),
                last_seq=group.last_seq,
            )
            if mine:
                await self._close(w, run, group)
            return mine

        try:
            mine = await self._database.at_once(SYSTEM, end)
        except BaseException as error:
            run.unsaved = group
            if isinstance(error, Fault) and not isinstance(error, Unavailable):
                log.warning("cortex.not_closed", turn_id=run.turn.id, why=error.detail)
                self.lose(run)
                return
            raise
        if not mine:
            self.lose(run)
            return
        self._tell(run, group)
        self._outcomes.add(1, {"outcome": ending.turn_state})
        run.over.set()

    async def _close(self, w: Writing, run: Run, group: Group) -> None:
        """In one transaction with the turn's state: its last events, and the message."""
        ending = run.ending
        assert ending is not None
        await store.add_events(w, run.turn, group.first_seq, group.last_seq, join(group.lines))
        await close_message(
            w,
            run.turn.owner_id,
            run.turn.answer_id,
            text=run.whole_text(),
            state=ending.message_state,
            model=run.model,
            details=ending.message_details,
        )
        await self._at_the_end(w, run)

    def _tell(self, run: Run, group: Group) -> None:
        told = join(group.lines)
        run.told.append(told)
        self._bus.publish(topic(run.turn.id), told)

    def lose(self, run: Run) -> None:
        """Another process holds this turn, or it is gone: end our part without a word."""
        log.warning("cortex.turn_lost", turn_id=run.turn.id)
        run.lost = True
        run.over.set()
        if run.task is not None:
            run.task.cancel()
