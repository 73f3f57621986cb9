"""Conversations are named by the model, later, and never against a person's will."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from mongars.cortex import CortexSettings, Turn
from mongars.cortex.titles import tidy
from mongars.hippocampus import conversation, set_title
from tests.cortex.conftest import OWNER, Open, Stage


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("A walk in the rain", "A walk in the rain"),
        ('"A walk in the rain."\n\nIt fits.', "A walk in the rain"),
        ("<think>hmm</think>\n**Title: Rain**", "Title: Rain"),
        ("Titre : La pluie", "La pluie"),
        ("# Rain", "Rain"),
        ("  \n ", None),
        ("word " * 40, "word word word word word word word word word word word word…"),
    ],
)
def test_what_a_model_wrote_becomes_one_short_line(written: str, title: str | None) -> None:
    assert tidy(written) == title


@contextlib.asynccontextmanager
async def working(stage: Stage) -> AsyncIterator[None]:
    task = asyncio.create_task(stage.jobs.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def title_of(stage: Stage, turn: Turn) -> str | None:
    async with stage.database.reading(OWNER) as r:
        return (await conversation(r, OWNER, turn.conversation_id)).title


@pytest.mark.slow
async def test_the_first_answer_names_the_conversation_once(open_stage: Open) -> None:
    async with open_stage(CortexSettings()) as stage, working(stage):
        turn, _ = await stage.talk("[[say Rainy days]] hello")
        async with stage.bus.subscribe(f"person:{OWNER}") as news:
            assert b"changed" in (await news.get(10) or b"")
        assert await title_of(stage, turn)
        await stage.talk("more", conversation_id=turn.conversation_id)
        assert len(stage.twin.requests) == 3
        assert (await stage.jobs.recent(OWNER))[0].state == "done"
        assert len(await stage.jobs.recent(OWNER)) == 1


@pytest.mark.slow
async def test_a_persons_title_stays_and_an_answer_goes_first(open_stage: Open) -> None:
    async with open_stage(CortexSettings()) as stage:
        turn, _ = await stage.talk("hello")
        held = await stage.say("[[hold]] x", conversation_id=turn.conversation_id)
        async with working(stage):
            async with asyncio.timeout(10):
                while (await stage.jobs.recent(OWNER))[0].state != "running":
                    await asyncio.sleep(0.05)
            assert len(stage.twin.requests) <= 2  # the title waits for the answer
            async with stage.database.writing(OWNER) as w:
                await set_title(w, OWNER, turn.conversation_id, "Mine", "person")
            await stage.cortex.stop(OWNER, held.id)
            async with asyncio.timeout(10):
                while (await stage.jobs.recent(OWNER))[0].state != "done":
                    await asyncio.sleep(0.05)
        assert await title_of(stage, turn) == "Mine"
