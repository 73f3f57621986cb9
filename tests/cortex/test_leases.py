"""Turns of processes that are gone are taken over, once, and nobody else writes them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

import sqlalchemy as sa

from mongars.bus import Bus
from mongars.cortex import CortexSettings, Turn
from mongars.cortex.holder import is_gone, own_name
from mongars.cortex.tables import turns
from mongars.database import SYSTEM, Database
from mongars.ids import now
from tests.cortex.conftest import OWNER, Open, Stage, text_of, types


@contextlib.asynccontextmanager
async def taking_over(stage: Stage) -> AsyncIterator[None]:
    """The worker's part of this."""
    task = asyncio.create_task(stage.cortex.take_over())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def lose(stage: Stage, turn: Turn) -> None:
    """The process that performs this turn falls silent, as if the machine stood still."""
    run = stage.cortex._runs.pop(turn.id)
    async with stage.database.writing(SYSTEM) as w:
        await w.execute(
            sa.update(turns)
            .where(turns.c.id == turn.id)
            .values(leased_until=now() - timedelta(seconds=1), leased_by="gone/1/1/aa")
        )
    assert run.task is not None


async def finished(stage: Stage, turn: Turn) -> list:  # type: ignore[type-arg]
    async with asyncio.timeout(10):
        return await stage.follow(turn)


async def test_a_turn_that_had_said_something_starts_over_with_a_reset(open_stage: Open) -> None:
    async with open_stage() as first, open_stage() as second:
        turn = await first.say("[[words 6]] [[delay 30ms]]")
        await first.wait_for(turn, "delta", 2)
        await lose(first, turn)
        async with taking_over(second):
            events = await finished(second, turn)
        assert types(events).count("reset") == 1
        assert types(events)[-1] == "done"
        assert sum(kind in ("done", "failed") for kind in types(events)) == 1
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        text = "word1 word2 word3 word4 word5 word6"
        assert text_of(events) == text == events[-1].facts()["message"]["text"]
        assert [one.text for one in await second.messages(turn)][1:] == [text]


async def test_a_turn_that_had_said_nothing_just_goes_on(open_stage: Open) -> None:
    async with open_stage(url="hold=") as first, open_stage() as second:
        first.twin.seats = 0
        turn = await first.say("one two")
        await first.wait_for(turn, "queued")
        await lose(first, turn)
        async with taking_over(second):
            events = await finished(second, turn)
        assert types(events)[-1] == "done"
        assert events[-1].facts()["message"]["text"] == "one two"


async def test_a_second_loss_closes_it_as_interrupted_with_its_text(open_stage: Open) -> None:
    async with open_stage() as first, open_stage() as second, open_stage() as third:
        turn = await first.say("[[hold]] one")
        await first.wait_for(turn, "delta")
        await lose(first, turn)
        async with taking_over(second):
            await first.wait_for(turn, "delta", 2)
        await lose(second, turn)
        async with taking_over(third):
            events = await finished(third, turn)
        failed = events[-1].facts()
        assert failed["problem"]["type"] == "urn:mongars:problem:interrupted"
        assert failed["message"]["text"] == "one"
        answer = (await third.messages(turn))[-1]
        assert (answer.text, answer.state) == ("one", "interrupted")
        more = await third.cortex.go_on(OWNER, turn.answer_id)
        await third.cortex.stop(OWNER, more.id)


async def test_who_lost_a_turn_writes_nothing_more(open_stage: Open) -> None:
    async with open_stage() as first, open_stage() as second:
        turn = await first.say("[[words 40]] [[delay 20ms]]")
        await first.wait_for(turn, "delta", 3)
        async with first.database.writing(SYSTEM) as w:  # a lease that ended while first slept
            await w.execute(
                sa.update(turns)
                .where(turns.c.id == turn.id)
                .values(leased_until=now() - timedelta(seconds=1))
            )
        async with taking_over(second):
            events = await finished(second, turn)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert types(events).count("reset") == 1
        assert len(text_of(events).split()) == 40
        async with asyncio.timeout(10):
            while first.cortex._runs:
                await asyncio.sleep(0.01)
        assert await first.follow(turn) == events


async def test_a_stop_that_was_asked_before_the_loss_is_kept(open_stage: Open) -> None:
    async with open_stage() as first, open_stage() as second:
        turn = await first.say("[[hold]] one")
        await first.wait_for(turn, "delta")
        await lose(first, turn)
        await second.cortex.stop(OWNER, turn.id)
        async with taking_over(second):
            events = await finished(second, turn)
        assert events[-1].facts()["finish_reason"] == "stopped"
        assert events[-1].facts()["message"]["text"] == "one"


async def test_a_stop_reaches_the_process_that_performs(open_stage: Open) -> None:
    async with Bus.open(None) as bus, open_stage(bus=bus) as one, open_stage(bus=bus) as other:
        turn = await one.say("[[hold]] x")
        await one.wait_for(turn, "delta")
        await other.cortex.stop(OWNER, turn.id)
        events = await finished(other, turn)
        assert types(events)[-1] == "done"


async def test_a_stop_arrives_without_any_bus(open_stage: Open) -> None:
    settings = CortexSettings(lease_s=0.5, titles=False)
    async with open_stage(settings) as one, open_stage(settings) as other:
        turn = await one.say("[[hold]] x")
        await one.wait_for(turn, "delta")
        await other.cortex.stop(OWNER, turn.id)
        assert types(await finished(other, turn))[-1] == "done"


async def test_leases_are_kept_while_a_turn_runs(open_stage: Open) -> None:
    settings = CortexSettings(lease_s=0.5, titles=False)
    async with open_stage(settings) as one, open_stage(settings) as other, taking_over(other):
        turn, events = await one.talk("[[words 8]] [[delay 200ms]]")
        assert "reset" not in types(events)
        assert other.cortex._runs == {}
        assert (await one.cortex.turn(OWNER, turn.id)).attempts == 1


async def test_a_planned_stop_hands_over_at_once_and_is_no_failed_try(open_stage: Open) -> None:
    async with open_stage() as first:
        turn = await first.say("[[words 6]] [[delay 50ms]]")
        await first.wait_for(turn, "delta")
        await first.cortex.wind_down(grace_s=0)
    async with open_stage() as second, taking_over(second):
        events = await finished(second, turn)
        assert types(events)[-1] == "done"
        assert len(text_of(events).split()) == 6
        assert (await second.cortex.turn(OWNER, turn.id)).attempts == 1


async def test_a_process_that_stops_does_not_take_its_own_turns_over(open_stage: Open) -> None:
    async with open_stage() as stage, taking_over(stage):
        turn = await stage.say("[[hold]] x")
        await stage.wait_for(turn, "delta")
        await stage.cortex.wind_down(grace_s=0)
        await asyncio.sleep(0.2)  # what would take it over is told at once
        async with stage.database.reading(SYSTEM) as r:
            holders = await r.all(sa.text("SELECT leased_by FROM turns"))
        assert [row.leased_by for row in holders] == [None]


async def test_a_planned_stop_lets_short_answers_end(open_stage: Open) -> None:
    async with open_stage() as stage:
        turn = await stage.say("[[words 5]] [[delay 20ms]]")
        following = asyncio.create_task(stage.follow(turn))
        await asyncio.sleep(0)
        await stage.cortex.wind_down(grace_s=5)
        events = await following
        assert types(events)[-1] == "done"


async def test_a_listener_elsewhere_sees_a_turn_without_any_bus(open_stage: Open) -> None:
    async with open_stage() as one, open_stage() as other:
        turn = await one.say("[[words 5]] [[delay 10ms]]")
        assert await finished(other, turn) == await finished(one, turn)


async def test_a_database_that_comes_back_loses_nothing(stage: Stage, database: Database) -> None:
    if database.dialect != "sqlite":
        return
    turn = await stage.say("[[words 10]] [[delay 20ms]]")
    await stage.wait_for(turn, "delta")
    async with database._writing:  # nobody can write for longer than a transaction may wait
        database._wait_s = 0.05
        await asyncio.sleep(0.6)
    database._wait_s = 5.0
    events = await finished(stage, turn)
    assert len(text_of(events).split()) == 10
    assert types(events)[-1] == "done"


def test_a_process_is_judged_gone_only_when_it_surely_is() -> None:
    assert not is_gone(own_name())
    host, pid, began, chance = own_name().rsplit("/", 3)
    assert is_gone(f"{host}/{pid}/{int(began) - 100}/{chance}")
    assert not is_gone(f"elsewhere/{pid}/1/{chance}")
    assert not is_gone("what is this")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert is_gone(f"{host}/{child.pid}/{began}/{chance}")
    assert int(pid) == os.getpid()
