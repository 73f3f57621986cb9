"""Two servers on one PostgreSQL and one Redis are one monGARS."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.journeys.processes import (
    Heard,
    add_person,
    events_of,
    joined,
    key_of,
    mongars,
    person,
    serving,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


async def test_a_turn_is_watched_and_taken_over_elsewhere(
    tmp_path: Path, postgres_url: str, redis_url: str
) -> None:
    settings = {
        "DATABASE__URL": postgres_url,
        "REDIS__URL": redis_url,
        "CORTEX__LEASE_S": "2",
    }
    mongars(tmp_path / "one", "migrate", **settings)
    add_person(tmp_path / "one", **settings)
    with serving(tmp_path / "one", **settings) as one, serving(tmp_path / "two", **settings) as two:
        headers = key_of(one)
        async with person(one, headers) as here, person(two, headers) as there:
            # Begun on one, heard on both alike.
            begun: Heard = []
            watched: Heard = []
            asked = {"message": "[[words 20]] [[delay 30ms]]"}
            talking = asyncio.create_task(events_of(here, "POST", "/chat", begun, json=asked))
            async with asyncio.timeout(10):
                while not begun:
                    await asyncio.sleep(0.01)
            await events_of(there, "GET", f"/turns/{begun[0]['turn_id']}/events", watched)
            await talking
            assert watched == begun
            assert begun[-1]["type"] == "done"

            # Stopped from the other side.
            stopped: Heard = []
            asked = {"message": "[[hold]] x"}
            talking = asyncio.create_task(events_of(here, "POST", "/chat", stopped, json=asked))
            async with asyncio.timeout(10):
                while not stopped or stopped[-1]["type"] != "delta":
                    await asyncio.sleep(0.01)
                await there.post(f"/turns/{stopped[0]['turn_id']}/stop")
                await talking
            assert stopped[-1]["finish_reason"] == "stopped"

            # Taken over when the one that performs it dies.
            cut: Heard = []
            rest: Heard = []
            asked = {"message": "[[words 60]] [[delay 50ms]]"}
            talking = asyncio.create_task(events_of(here, "POST", "/chat", cut, json=asked))
            async with asyncio.timeout(10):
                while len(cut) < 6:
                    await asyncio.sleep(0.01)
            turn_id = cut[0]["turn_id"]
            following = asyncio.create_task(
                events_of(there, "GET", f"/turns/{turn_id}/events", rest)
            )
            one.kill()
            await asyncio.gather(talking, return_exceptions=True)
            async with asyncio.timeout(20):
                await following
            assert [event["seq"] for event in rest] == list(range(1, len(rest) + 1))
            assert rest[: len(cut)] == cut
            assert [event["type"] for event in rest].count("reset") == 1
            assert rest[-1]["type"] == "done"
            assert joined(rest) == rest[-1]["message"]["text"]
            assert len(joined(rest).split()) == 60
