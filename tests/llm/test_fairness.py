"""Who is answered next."""

import asyncio
import contextlib

import pytest

from mongars.llm.fairness import FairQueue, Ticket


class Scene:
    """Tickets by name, as in `a1` for the first of owner `a`."""

    def __init__(self, seats: int) -> None:
        self.queue = FairQueue(seats)
        self.stacks: dict[str, contextlib.ExitStack] = {}
        self.tickets: dict[str, Ticket] = {}

    def enter(self, *names: str) -> None:
        for name in names:
            stack = contextlib.ExitStack()
            self.tickets[name] = stack.enter_context(self.queue.ticket(name[0]))
            self.stacks[name] = stack

    def leave(self, name: str) -> None:
        self.stacks.pop(name).close()
        del self.tickets[name]

    def seated(self) -> list[str]:
        return [name for name, ticket in self.tickets.items() if ticket.position is None]

    def waiting(self) -> dict[str, int]:
        return {n: t.position for n, t in self.tickets.items() if t.position is not None}

    def run_down(self) -> list[str]:
        """End who is seated, again and again; the order in which they were seated."""
        order = []
        while seated := self.seated():
            order.append(seated[0])
            self.leave(seated[0])
        return order


def test_people_take_turns_however_many_requests_each_has():
    scene = Scene(1)
    scene.enter("a1", "a2", "a3", "a4", "b1", "b2", "c1")
    assert scene.waiting() == {"b1": 1, "c1": 2, "a2": 3, "b2": 4, "a3": 5, "a4": 6}
    assert scene.run_down() == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_nobody_starves_beside_somebody_who_asks_again_and_again():
    scene = Scene(1)
    scene.enter("a0", "b0")
    for turn in range(1, 4):
        scene.enter(f"a{turn}")
        scene.leave(f"a{turn - 1}")
        if "b0" in scene.seated():
            break
    assert scene.seated() == ["b0"]
    scene.run_down()


@pytest.mark.parametrize(("seats", "most"), [(1, 1), (2, 1), (4, 3)])
def test_one_person_never_takes_the_last_seat(seats: int, most: int):
    scene = Scene(seats)
    scene.enter(*(f"a{n}" for n in range(6)))
    assert len(scene.seated()) == most
    scene.enter("b0")
    assert ("b0" in scene.seated()) is (seats > 1)
    scene.run_down()


def test_who_leaves_while_waiting_moves_the_others_up_and_loses_no_turn():
    scene = Scene(1)
    scene.enter("a1", "b1", "b2", "b3", "c1", "c2")
    scene.leave("b1")
    scene.leave("b2")
    assert scene.waiting() == {"b3": 1, "c1": 2, "c2": 3} or scene.waiting() == {
        "c1": 1,
        "b3": 2,
        "c2": 3,
    }
    scene.run_down()


def test_an_empty_queue_remembers_nothing():
    scene = Scene(1)
    scene.enter("a1", "a2", "a3")
    scene.run_down()
    scene.enter("a4", "b1", "a5")
    assert scene.run_down() == ["a4", "b1", "a5"]
    assert len(scene.queue._ends) == 0


async def test_positions_are_told_as_they_change():
    queue = FairQueue(1)
    told: list[int | None] = []

    async def ask() -> None:
        with queue.ticket("c") as ticket:
            while ticket.position is not None:
                told.append(ticket.position)
                await ticket.moved()
            told.append(None)

    with queue.ticket("a"):
        with queue.ticket("b") as second:
            task = asyncio.create_task(ask())
            await asyncio.sleep(0)
            assert told == [2]
        await asyncio.sleep(0)
        assert second.position == 1
        assert told == [2, 1]
    await asyncio.wait_for(task, 5)
    assert told == [2, 1, None]


async def test_a_cancelled_wait_frees_its_place_and_a_cancelled_answer_its_seat():
    queue = FairQueue(1)
    seated = asyncio.Event()

    async def ask(owner: str) -> None:
        with queue.ticket(owner) as ticket:
            while ticket.position is not None:
                await ticket.moved()
            seated.set()
            await asyncio.Event().wait()

    first = asyncio.create_task(ask("a"))
    await asyncio.wait_for(seated.wait(), 5)
    second, third = asyncio.create_task(ask("b")), asyncio.create_task(ask("c"))
    await asyncio.sleep(0)
    seated.clear()
    for task in (second, first):
        task.cancel()
        await asyncio.wait({task})
    await asyncio.wait_for(seated.wait(), 5)
    third.cancel()
    await asyncio.wait({third})
    with queue.ticket("d") as ticket:
        assert ticket.position is None
