"""Turns over HTTP: looked at, resumed, stopped, and answers in other words."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.api.test_chat import EVENTS, V1, events_in

if TYPE_CHECKING:
    from mongars.body import Body


async def talk(client: httpx.AsyncClient, message: str) -> dict[str, Any]:
    answer = await client.post(f"{V1}/chat", json={"message": message})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_a_turn_is_told_in_its_shape(alice: httpx.AsyncClient) -> None:
    told = await talk(alice, "hello")
    turn = (await alice.get(f"{V1}/turns/{told['turn_id']}")).json()
    assert turn["id"] == told["turn_id"]
    assert turn["conversation_id"] == told["conversation_id"]
    assert turn["message_id"] == told["message"]["parent_id"]
    assert turn["answer_id"] == told["message"]["id"]
    assert turn["state"] == "done"
    assert turn["error"] is None
    assert turn["created_at"].endswith("Z")
    assert turn["ended_at"] >= turn["created_at"]


async def test_events_resume_behind_the_last_one_seen(alice: httpx.AsyncClient) -> None:
    told = await talk(alice, "[[words 9]] [[delay 20ms]]")
    url = f"{V1}/turns/{told['turn_id']}/events"
    everything = events_in((await alice.get(url)).text)
    assert everything[-1][0] == "done"
    header = {"last-event-id": "3"}
    assert events_in((await alice.get(url, headers=header)).text) == everything[3:]
    assert events_in((await alice.get(f"{url}?after=3")).text) == everything[3:]
    assert (await alice.get(f"{url}?after={len(everything)}")).text == ""
    for wrong in ("x", "-1", "9" * 30):
        refused = await alice.get(url, headers={"last-event-id": wrong})
        assert refused.status_code == 422


async def test_a_stop_ends_a_turn_in_done(alice: httpx.AsyncClient, body: Body) -> None:
    asking = asyncio.create_task(
        alice.post(f"{V1}/chat", json={"message": "[[hold]] one"}, headers=EVENTS)
    )
    me = (await alice.get(f"{V1}/me")).json()["id"]
    async with asyncio.timeout(10):
        while not (active := await body.cortex.active_turns(me)):
            await asyncio.sleep(0.01)
        async for event in body.cortex.listen(me, active[0][0]):
            if event.type == "delta":
                break
    stopped = await alice.post(f"{V1}/turns/{active[0][0]}/stop")
    assert stopped.json()["state"] == "stopped"
    name, _, done = events_in((await asking).text)[-1]
    assert (name, done["finish_reason"]) == ("done", "stopped")
    assert done["message"]["text"] == "one"


@pytest.mark.parametrize("as_events", [True, False])
async def test_again_more_and_otherwise_answer_as_chat_does(
    alice: httpx.AsyncClient, as_events: bool
) -> None:
    told = await talk(alice, "hello")
    answer_id, asked_id = told["message"]["id"], told["message"]["parent_id"]
    headers = EVENTS if as_events else {}
    again = await alice.post(f"{V1}/messages/{answer_id}/regenerate", headers=headers)
    more = await alice.post(f"{V1}/messages/{answer_id}/continue", json={}, headers=headers)
    edited = await alice.patch(
        f"{V1}/messages/{asked_id}", json={"text": "good bye"}, headers=headers
    )
    for answer in (again, more, edited):
        assert answer.status_code == 200, answer.text
    if as_events:
        messages = [events_in(one.text)[-1][2]["message"] for one in (again, more, edited)]
    else:
        messages = [one.json()["message"] for one in (again, more, edited)]
    assert messages[0]["parent_id"] == messages[1]["parent_id"] == asked_id
    assert messages[0]["text"] == "hello"
    assert messages[1]["text"].startswith("hello")
    assert messages[2]["text"] == "good bye"
    assert messages[2]["parent_id"] != asked_id
    assert len({answer_id, *(one["id"] for one in messages)}) == 4


async def test_what_cannot_be_done_with_a_message_is_refused(alice: httpx.AsyncClient) -> None:
    told = await talk(alice, "hello")
    answer_id, asked_id = told["message"]["id"], told["message"]["parent_id"]
    refused = await alice.patch(f"{V1}/messages/{answer_id}", json={"text": "mine"})
    assert refused.status_code == 409
    assert (await alice.post(f"{V1}/messages/{asked_id}/continue")).status_code == 409
    assert (await alice.post(f"{V1}/messages/nothing/regenerate")).status_code == 404
    assert (await alice.patch(f"{V1}/messages/{asked_id}", json={})).status_code == 422
    assert (await alice.get(f"{V1}/turns/nothing")).status_code == 404
