"""Talking over HTTP: whole answers, events, keys and refusals."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from mongars.body import Body

V1 = "/api/v1"
EVENTS = {"accept": "text/event-stream"}


def events_in(text: str) -> list[tuple[str, int, dict[str, Any]]]:
    """Name, id and data of each event of a stream."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.split("\n") if line[:1] not in ("", ":")
        )
        if fields:
            found.append((fields["event"], int(fields["id"]), json.loads(fields["data"])))
    return found


async def test_an_answer_comes_whole(alice: httpx.AsyncClient) -> None:
    answer = await alice.post(f"{V1}/chat", json={"message": "one two three"})
    assert answer.status_code == 200
    told = answer.json()
    assert set(told) == {
        "turn_id",
        "conversation_id",
        "message",
        "model",
        "finish_reason",
        "usage",
        "timing",
        "memories",
        "sources",
    }
    message = told["message"]
    assert message["role"] == "assistant"
    assert message["text"] == "one two three"
    assert message["state"] == "done"
    assert message["conversation_id"] == told["conversation_id"]
    assert told["model"] == message["model"] == "scripted/twin"
    assert told["finish_reason"] == "stop"
    assert told["usage"]["completion_tokens"] == 3
    assert told["timing"]["first_token_ms"] <= told["timing"]["total_ms"]


async def test_an_answer_comes_as_events_that_make_its_text(alice: httpx.AsyncClient) -> None:
    asked = {"message": "[[words 9]] [[delay 5ms]]", "client_id": "tab-1"}
    answer = await alice.post(f"{V1}/chat", json=asked, headers=EVENTS)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_in(answer.text)
    assert [seq for _, seq, _ in events] == list(range(1, len(events) + 1))
    assert all(data["seq"] == seq and data["turn_id"] for _, seq, data in events)
    assert events[0][0] == "queued"
    assert events[1][0] == "started"
    assert events[1][2]["client_id"] == "tab-1"
    name, _, done = events[-1]
    assert name == "done"
    text = "".join(data["text"] for name, _, data in events if name == "delta")
    assert text == done["message"]["text"]
    assert len(text.split()) == 9


async def test_a_failed_turn_is_a_problem_and_the_message_is_kept(alice: httpx.AsyncClient) -> None:
    answer = await alice.post(f"{V1}/chat", json={"message": "[[words 5]] [[fail 2]]"})
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    turn = (await alice.get(f"{V1}/turns/{problem['turn_id']}")).json()
    assert turn["state"] == "failed"
    assert turn["message_id"] == problem["message_id"]
    assert turn["error"]["type"] == problem["type"]
    events = await alice.get(f"{V1}/turns/{problem['turn_id']}/events")
    name, _, failed = events_in(events.text)[-1]
    assert name == "failed"
    assert failed["problem"]["type"] == problem["type"]
    assert failed["message"]["text"] == "word1 word2"


async def test_a_key_stands_for_one_turn(alice: httpx.AsyncClient, body: Body) -> None:
    key = {"idempotency-key": "k1"}
    asked = {"message": "[[words 4]] [[delay 10ms]]"}
    one, two = await asyncio.gather(
        *(alice.post(f"{V1}/chat", json=asked, headers=key) for _ in range(2))
    )
    assert one.json() == two.json()
    again = await alice.post(f"{V1}/chat", json=asked, headers={**key, **EVENTS})
    assert events_in(again.text)[-1][2]["turn_id"] == one.json()["turn_id"]
    other = await alice.post(f"{V1}/chat", json={"message": "another"}, headers=key)
    assert other.status_code == 422
    assert other.json()["type"] == "urn:mongars:problem:idempotency-key-reused"
    elsewhere = f"{V1}/messages/{one.json()['message']['id']}/regenerate"
    assert (await alice.post(elsewhere, headers=key)).status_code == 422
    too_long = {"idempotency-key": "k" * 201}
    assert (await alice.post(f"{V1}/chat", json=asked, headers=too_long)).status_code == 422


async def test_options_reach_the_model(alice: httpx.AsyncClient) -> None:
    asked = {"message": "[[words 20]]", "options": {"max_tokens": 3, "temperature": 0.2}}
    told = (await alice.post(f"{V1}/chat", json=asked)).json()
    assert told["finish_reason"] == "length"
    assert len(told["message"]["text"].split()) == 3


async def test_an_image_goes_along_and_is_kept(alice: httpx.AsyncClient, body: Body) -> None:
    picture = base64.b64encode(b"not really a picture").decode()
    attachment = {"type": "image", "media_type": "image/png", "data": picture}
    asked = {"message": "what is this", "attachments": [attachment]}
    told = (await alice.post(f"{V1}/chat", json=asked)).json()
    twin: Any = body.llm._backends.opened["scripted"].model
    assert twin.requests[-1].messages[-1].images[0].data == b"not really a picture"
    again = {"message": "and now", "conversation_id": told["conversation_id"]}
    await alice.post(f"{V1}/chat", json=again)
    assert twin.requests[-1].messages[1].images[0].media_type == "image/png"


async def test_what_is_wrong_is_named_and_nothing_is_stored(alice: httpx.AsyncClient) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "message"),
        ({"message": ""}, "message"),
        ({"message": "x" * 32_001}, "message"),
        ({"message": 7}, "message"),
        ({"message": "a\x00b"}, "message"),
        ({"message": "x", "surprise": 1}, "surprise"),
        ({"message": "x", "conversation_id": "no such id!"}, "conversation_id"),
        ({"message": "x", "options": {"temperature": 9}}, "temperature"),
        ({"message": "x", "attachments": [{"type": "file"}]}, "type"),
        (
            {
                "message": "x",
                "attachments": [{"type": "image", "media_type": "image/png", "data": "?"}],
            },
            "data",
        ),
    ]
    for asked, field in wrong:
        answer = await alice.post(f"{V1}/chat", json=asked)
        assert answer.status_code == 422, asked
        assert any(field in one["loc"] for one in answer.json()["errors"]), asked
    assert (await alice.post(f"{V1}/chat", content=b"{")).status_code == 400
    missing = {"message": "x", "conversation_id": "no-such-conversation"}
    assert (await alice.post(f"{V1}/chat", json=missing)).status_code == 404
    active = await alice.get(f"{V1}/conversations")
    if active.status_code == 200:
        assert active.json()["items"] == []


async def test_limits_answer_with_when_to_come_back(alice: httpx.AsyncClient, body: Body) -> None:
    held = [
        asyncio.create_task(alice.post(f"{V1}/chat", json={"message": "[[hold]] x"}))
        for _ in range(4)
    ]
    me = (await alice.get(f"{V1}/me")).json()["id"]
    async with asyncio.timeout(10):
        while len(await body.cortex.active_turns(me)) < 4:
            await asyncio.sleep(0.01)
    answer = await alice.post(f"{V1}/chat", json={"message": "fifth"})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    turn_id, conversation_id = (await body.cortex.active_turns(me))[0]
    asked = {"message": "second", "conversation_id": conversation_id}
    answer = await alice.post(f"{V1}/chat", json=asked)
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:mongars:problem:turn-running"
    assert answer.json()["turn_id"] == turn_id
    for turn_id, _ in await body.cortex.active_turns(me):
        assert (await alice.post(f"{V1}/turns/{turn_id}/stop")).status_code == 200
    told = [one.json() for one in await asyncio.gather(*held)]
    assert {one["finish_reason"] for one in told} == {"stopped"}


async def test_sixty_messages_a_minute(alice: httpx.AsyncClient, body: Body) -> None:
    me = (await alice.get(f"{V1}/me")).json()["id"]
    for _ in range(59):
        await body.cortex.admit(me)
    assert (await alice.post(f"{V1}/chat", json={"message": "x"})).status_code == 200
    answer = await alice.post(f"{V1}/chat", json={"message": "x"})
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60
