"""Following a turn from any place in it: what is on disk first, then what comes.

A listener hears the bus before it reads, so nothing falls between the two. A gap in `seq` (a
message lost on its way, a buffer that ran over) sends it back to the database. So does silence,
where another process performs the turn: then news may have been lost with Redis.
"""

from collections.abc import AsyncGenerator, Callable, Mapping

import orjson

from mongars.bus import Bus
from mongars.cortex import store
from mongars.cortex.events import LAST, Event, split
from mongars.cortex.recorder import topic
from mongars.cortex.run import Run
from mongars.cortex.turn import Turn
from mongars.database import Database
from mongars.errors import Missing

LOOK_S = 1.0
"""After how long a silence, in seconds, a listener looks for itself."""


class Listening:
    """Gives the events of turns to whoever asks."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        runs: Mapping[str, Run],
        closing_topic: str,
        closed: Callable[[], bool],
    ) -> None:
        self._database = database
        self._bus = bus
        self._runs = runs
        self._closing_topic = closing_topic
        self._closed = closed

    async def listen(
        self, owner_id: str, turn_id: str, after: int = 0
    ) -> AsyncGenerator[Event, None]:
        """The events behind `after`, to the end of the turn.

        Ends early when this process is asked to stop, or when the turn is forgotten. Raises
        `Missing` for a turn that is not there or not one's own.
        """
        run = self._runs.get(turn_id)
        if run is None or run.turn.owner_id != owner_id:
            await self._turn(owner_id, turn_id)
        seen = after
        async with self._bus.subscribe(topic(turn_id), self._closing_topic) as news:
            while not self._closed():
                run = self._runs.get(turn_id)
                if run is not None:
                    groups = list(run.told)
                else:
                    groups = await self._stored(owner_id, turn_id, seen)
                for group in groups:
                    for event in split(group):
                        if event.seq > seen:
                            seen = event.seq
                            yield event
                            if event.ends:
                                return
                if run is None and await self._nothing_follows(owner_id, turn_id):
                    return
                # What is heard is in order; at the first gap or a long silence we look again.
                while not self._closed():
                    heard = await news.get(LOOK_S)
                    if not heard:
                        if self._runs.get(turn_id) is not None:
                            continue
                        break
                    behind = False
                    for event in split(heard):
                        if event.seq <= seen:
                            continue
                        if event.seq != seen + 1:
                            behind = True
                            break
                        seen = event.seq
                        yield event
                        if event.ends:
                            return
                    if behind:
                        break

    async def _turn(self, owner_id: str, turn_id: str) -> Turn:
        async with self._database.reading(owner_id) as r:
            return await store.get(r, owner_id, turn_id)

    async def _stored(self, owner_id: str, turn_id: str, seen: int) -> list[bytes]:
        async with self._database.reading(owner_id) as r:
            groups = await store.groups(r, turn_id, seen)
            if groups or seen < 2:
                return groups
            try:
                turn = await store.get(r, owner_id, turn_id)
            except Missing:
                return []
            if not turn.compacted or seen >= turn.last_seq:
                return []
            return [renumbered(group, seen) for group in await store.groups(r, turn_id, 0)]

    async def _nothing_follows(self, owner_id: str, turn_id: str) -> bool:
        """Whether the turn is over (its end was seen by a listener that came back) or forgotten."""
        try:
            return not (await self._turn(owner_id, turn_id)).active
        except Missing:
            return True


def renumbered(group: bytes, seen: int) -> bytes:
    """The end of a turn whose events were dropped, for one who saw some of them: it comes next."""
    last = [event for event in split(group) if event.type in LAST]
    facts = last[-1].facts()
    facts["seq"] = seen + 1
    return b"[" + orjson.dumps(facts) + b"]"
