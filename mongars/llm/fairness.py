"""Who is answered next: seats of one backend, shared fairly between people.

Start-time fair queuing (Goyal, Vin, Cheng 1996) with one unit per answer: every request gets a
start tag, which is the later of the queue's time and the end of its owner's request before it; the
smallest tag is next. So people take turns however many requests each has, and nobody starves.
"""

import asyncio
import contextlib
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field

_ENTERING = 0


@dataclass(eq=False)
class Ticket:
    """One request's place. `position` counts from 1 while others are before it; `None`: seated."""

    owner_id: str
    tag: int
    number: int
    position: int | None = None
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def moved(self) -> None:
        """Wait until `position` changes."""
        await self._moved.wait()
        self._moved.clear()

    def move(self, position: int | None) -> None:
        """Give it this position and wake who waits, when it is another."""
        if position != self.position:
            if self.position != _ENTERING:
                self._moved.set()
            self.position = position


class FairQueue:
    """Seats, and who waits for one.

    One person holds at most `max(1, seats - 1)` seats, so that nobody waits behind several long
    answers of one person.
    """

    def __init__(self, seats: int) -> None:
        self.seats = seats
        self._most = max(1, seats - 1)
        self._seated: list[Ticket] = []
        self._waiting: list[Ticket] = []
        self._ends: dict[str, int] = {}
        self._time = 0
        self._number = 0

    @contextlib.contextmanager
    def ticket(self, owner_id: str) -> Iterator[Ticket]:
        """Enter the queue; leave it, or free the seat, at the end.

        with queue.ticket(owner) as ticket:
            while ticket.position is not None:
                ...
                await ticket.moved()
        """
        ticket = self._enter(owner_id)
        try:
            yield ticket
        finally:
            self._leave(ticket)

    def _enter(self, owner_id: str) -> Ticket:
        tag = max(self._time, self._ends.get(owner_id, 0))
        self._ends[owner_id] = tag + 1
        self._number += 1
        ticket = Ticket(owner_id, tag, self._number, position=_ENTERING)
        insort(self._waiting, ticket, key=_order)
        self._fill()
        return ticket

    def _leave(self, ticket: Ticket) -> None:
        if ticket in self._seated:
            self._seated.remove(ticket)
        else:
            self._waiting.remove(ticket)
            self._give_back(ticket)
        if not self._seated and not self._waiting:
            self._ends.clear()
        self._fill()

    def _give_back(self, gone: Ticket) -> None:
        """Who left without an answer loses no turn by it."""
        self._ends[gone.owner_id] -= 1
        for ticket in self._waiting:
            if ticket.owner_id == gone.owner_id and ticket.tag > gone.tag:
                ticket.tag -= 1
        self._waiting.sort(key=_order)

    def _fill(self) -> None:
        while len(self._seated) < self.seats:
            ticket = next((one for one in self._waiting if self._may_sit(one.owner_id)), None)
            if ticket is None:
                break
            self._waiting.remove(ticket)
            self._seated.append(ticket)
            self._time = max(self._time, ticket.tag)
            ticket.move(None)
        for place, ticket in enumerate(self._waiting, start=1):
            ticket.move(place)

    def _may_sit(self, owner_id: str) -> bool:
        return sum(one.owner_id == owner_id for one in self._seated) < self._most


def _order(ticket: Ticket) -> tuple[int, int]:
    return (ticket.tag, ticket.number)
