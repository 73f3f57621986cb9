"""A server that is killed in mid-answer loses nothing, doubles nothing and leaves nothing hanging."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.journeys.processes import (
    Heard,
    Server,
    add_person,
    events_of,
    joined,
    key_of,
    person,
    serving,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KILLS = int(os.environ.get("MONGARS_TEST_KILLS", "10"))
AT_ONCE = 3
WORDS = 40
ANSWER = " ".join(f"word{n}" for n in range(1, WORDS + 1))


@dataclass
class Saying:
    """Something said, and what was heard of its answer before the server died."""

    text: str
    key: str
    heard: Heard = field(default_factory=list)

    async def say(self, client: httpx.AsyncClient) -> None:
        headers = {"idempotency-key": self.key}
        asked = {"message": self.text}
        with contextlib.suppress(httpx.TransportError):
            await events_of(client, "POST", "/chat", self.heard, json=asked, headers=headers)


async def _round(
    server: Server, headers: dict[str, str], number: int, wait_s: float
) -> list[Saying]:
    """Say some things and kill the server at some moment."""
    said = [
        Saying(
            f"[[words {WORDS}]] [[delay 20ms]] round {number} voice {voice}", f"{number}-{voice}"
        )
        for voice in range(AT_ONCE)
    ]
    async with person(server, headers) as client:
        talking = [asyncio.create_task(one.say(client)) for one in said]
        await asyncio.sleep(wait_s)
        server.kill()
        await asyncio.gather(*talking)
    return said


async def _settle(server: Server, headers: dict[str, str], said: list[Saying]) -> None:
    """After the restart: the same key leads to the same turn, and each turn comes to one end."""
    async with person(server, headers) as client:
        for one in said:
            again: Heard = []
            key = {"idempotency-key": one.key}
            asked = {"message": one.text}
            await events_of(client, "POST", "/chat", again, json=asked, headers=key)
            assert [event["seq"] for event in again] == list(range(1, len(again) + 1))
            # What had been heard was on disk, and is told again in the same way.
            assert again[: len(one.heard)] == one.heard
            assert sum(event["type"] in ("done", "failed") for event in again) == 1
            last = again[-1]
            if last["type"] == "done":
                assert joined(again) == last["message"]["text"] == ANSWER
            else:
                assert last["problem"]["type"].endswith(":interrupted")
            turn = (await client.get(f"/turns/{last['turn_id']}")).json()
            assert turn["state"] in ("done", "failed")


def _stored(data: Path) -> Counter[str]:
    """How often each text of the person's is stored; no answer is still being written."""
    with contextlib.closing(sqlite3.connect(data / "mongars.db")) as database:
        rows = database.execute("SELECT role, text, state FROM messages").fetchall()
        active = database.execute("SELECT count(*) FROM turns WHERE leased_by IS NOT NULL")
        assert active.fetchone() == (0,)
    assert not [state for _, _, state in rows if state == "writing"]
    assert len([role for role, _, _ in rows if role == "assistant"]) == len(rows) / 2
    return Counter(text for role, text, _ in rows if role == "user")


async def test_kills_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    rng = random.Random(20261124)
    data, said = tmp_path / "data", []
    add_person(data)
    headers: dict[str, str] = {}
    waiting: list[Saying] = []
    number, again = 0, False
    while number < KILLS:
        with serving(data) as server:
            headers = headers or key_of(server)
            if number and number % 3 == 0 and not again:  # dies a second time while it takes over
                again = True
                await asyncio.sleep(rng.uniform(0, 0.8))
                continue
            again = False
            await _settle(server, headers, waiting)
            wait_s = rng.uniform(0, 1.1) if number else 0.5
            waiting = await _round(server, headers, number, wait_s)
            said += waiting
            number += 1
    with serving(data) as server:
        await _settle(server, headers, waiting)
    assert _stored(data) == Counter(one.text for one in said)
    # Most kills fell into the middle of an answer.
    cut = [one for one in said if one.heard and one.heard[-1]["type"] not in ("done", "failed")]
    assert len(cut) >= len(said) / 2


async def test_sigterm_in_mid_answer_ends_in_time_and_hands_over(tmp_path: Path) -> None:
    data = tmp_path / "data"
    add_person(data)
    heard: Heard = []
    with serving(data) as server:
        headers = key_of(server)
        async with person(server, headers) as client:
            asked = {"message": "[[words 300]] [[delay 40ms]]"}
            talking = asyncio.create_task(events_of(client, "POST", "/chat", heard, json=asked))
            async with asyncio.timeout(10):
                while not any(event["type"] == "delta" for event in heard):
                    await asyncio.sleep(0.02)
            took = await asyncio.to_thread(server.terminate)
            await talking  # the stream ended in order
        assert took < 10
        assert server.process.returncode == 0
    assert heard[-1]["type"] == "delta"
    with serving(data) as server:
        async with person(server, headers) as client:
            rest: Heard = []
            url = f"/turns/{heard[0]['turn_id']}/events?after={heard[-1]['seq']}"
            await events_of(client, "GET", url, rest)
    assert rest[0]["type"] in ("reset", "delta")
    assert rest[0]["seq"] == heard[-1]["seq"] + 1
    assert rest[-1]["type"] == "done"
    assert joined(heard + rest) == rest[-1]["message"]["text"]
    assert len(joined(heard + rest).split()) == 300


async def test_sigterm_lets_a_short_answer_end(tmp_path: Path) -> None:
    data = tmp_path / "data"
    add_person(data)
    heard: Heard = []
    with serving(data) as server:
        async with person(server, key_of(server)) as client:
            asked = {"message": "[[words 30]] [[delay 40ms]]"}
            talking = asyncio.create_task(events_of(client, "POST", "/chat", heard, json=asked))
            async with asyncio.timeout(10):
                while len(heard) < 3:
                    await asyncio.sleep(0.02)
            assert await asyncio.to_thread(server.terminate) < 10
            await talking
    assert heard[-1]["type"] == "done"
