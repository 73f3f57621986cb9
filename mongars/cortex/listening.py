"""Following a turn from any place in it: what is on disk first, then what comes.

A listener hears the bus before it reads, so nothing falls between the two. A gap in `seq` (a
message lost on its way, a buffer that ran over) sends it back to the database. So does silence,
where another process performs the turn: then news may have been lost with Redis.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping

import orjson

from mongars.bus import Bus, Subscription
from mongars.cortex import store
from mongars.cortex.events import LAST, Event, split
from mongars.cortex.recorder import topic
from mongars.cortex.run import Run
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
            async with self._database.reading(owner_id) as r:
                await store.get(r, owner_id, turn_id)
        seen = after
        async with self._bus.subscribe(topic(turn_id), self._closing_topic) as news:
            while not self._closed():
                groups, over = await self._known(owner_id, turn_id, seen)
                for event in _behind(groups, seen):
                    seen = event.seq
                    yield event
                    if event.ends:
                        return
                if over:
                    return
                while (heard := await self._heard(news, turn_id)) is not None:
                    fresh = _behind([heard], seen)
                    if fresh and fresh[0].seq != seen + 1:
                        break  # something is missing: look again
                    for event in fresh:
                        seen = event.seq
                        yield event
                        if event.ends:
                            return

    async def _heard(self, news: Subscription, turn_id: str) -> bytes | None:
        """The next group that is told; `None` when it is time to look for oneself."""
        while not self._closed():
            if heard := await news.get(LOOK_S):
                return heard
            if turn_id not in self._runs:
                return None
        return None

    async def _known(self, owner_id: str, turn_id: str, seen: int) -> tuple[list[bytes], bool]:
        """The groups that reach beyond `seen`, and whether nothing follows them."""
        if (run := self._runs.get(turn_id)) is not None:
            return list(run.told), False
        async with self._database.reading(owner_id) as r:
            try:  # first the turn, then its events: one that is over has all of them on disk
                turn = await store.get(r, owner_id, turn_id)
            except Missing:
                return [], True
            groups = await store.groups(r, turn_id, seen)
            if not groups and turn.compacted and 2 <= seen < turn.last_seq:
                groups = [_renumbered(one, seen) for one in await store.groups(r, turn_id, 0)]
        return groups, not turn.active


def _behind(groups: Iterable[bytes], seen: int) -> list[Event]:
    return [event for group in groups for event in split(group) if event.seq > seen]


def _renumbered(group: bytes, seen: int) -> bytes:
    """The end of a turn whose events were dropped, for one who saw some of them: it comes next."""
    last = [event for event in split(group) if event.type in LAST]
    facts = last[-1].facts()
    facts["seq"] = seen + 1
    return b"[" + orjson.dumps(facts) + b"]"
