"""The socket, over a real connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
import websockets
from websockets.asyncio.client import ClientConnection

from tests.servers import free_port

if TYPE_CHECKING:
    from mongars.body import Body

V1 = "/api/v1"


@pytest.fixture
async def address(body: Body) -> AsyncIterator[str]:
    """The application on a real port."""
    from mongars.api.app import create_app

    app = create_app(body.settings)
    app.state.body = body
    port = free_port()
    config = uvicorn.Config(app, port=port, log_config=None, ws="websockets-sansio", lifespan="off")
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    yield f"127.0.0.1:{port}"
    server.should_exit = True
    await serving


class Socket:
    """One connection of the page or an app."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **frame: Any) -> None:
        await self.connection.send(json.dumps(frame))

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            told: dict[str, Any] = json.loads(await self.connection.recv())
            return told

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """All frames up to the first of this type."""
        frames = [await self.next()]
        while frames[-1]["type"] != kind:
            frames.append(await self.next())
        return frames


async def ticket(client: httpx.AsyncClient) -> str:
    return str((await client.post(f"{V1}/ws/ticket")).json()["ticket"])


def joined(address: str, ticket: str) -> AbstractAsyncContextManager[ClientConnection]:
    return websockets.connect(f"ws://{address}{V1}/ws/chat?ticket={ticket}")


@contextlib.asynccontextmanager
async def opened(address: str, client: httpx.AsyncClient) -> AsyncIterator[Socket]:
    async with joined(address, await ticket(client)) as connection:
        yield Socket(connection)


async def test_saying_is_answered_with_the_events(address: str, alice: httpx.AsyncClient) -> None:
    async with opened(address, alice) as socket:
        await socket.send(type="say", message="one two three", client_id="c1")
        frames = await socket.until("done")
        assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
        assert frames[1]["type"] == "started"
        assert frames[1]["client_id"] == "c1"
        assert frames[-1]["message"]["text"] == "one two three"


async def test_a_stop_arrives(address: str, alice: httpx.AsyncClient) -> None:
    async with opened(address, alice) as socket:
        await socket.send(type="say", message="[[hold]] x")
        frames = await socket.until("delta")
        await socket.send(type="stop", turn_id=frames[0]["turn_id"])
        assert (await socket.until("done"))[-1]["finish_reason"] == "stopped"


async def test_another_device_resumes_and_watches(
    address: str, alice: httpx.AsyncClient, bob: httpx.AsyncClient
) -> None:
    async with (
        opened(address, alice) as phone,
        opened(address, alice) as laptop,
        opened(address, bob) as stranger,
    ):
        await laptop.send(type="watch")
        await stranger.send(type="watch")
        await phone.send(type="say", message="[[words 6]] [[delay 20ms]]")
        said = await phone.until("done")
        watched = [f for f in await laptop.until("done") if f["type"] != "changed"]
        assert watched == said
        await laptop.send(type="resume", turn_id=said[0]["turn_id"], after=3)
        assert await laptop.until("done") == said[3:]
        await stranger.send(type="resume", turn_id=said[0]["turn_id"], after=0)
        frame = await stranger.next()
        assert frame["type"] == "error"
        assert frame["problem"]["status"] == 404


async def test_what_runs_already_is_seen_by_who_begins_to_watch(
    address: str, alice: httpx.AsyncClient
) -> None:
    async with opened(address, alice) as phone, opened(address, alice) as laptop:
        await phone.send(type="say", message="[[hold]] x")
        begun = (await phone.until("started"))[-1]
        await laptop.send(type="watch", conversation_id=begun["conversation_id"])
        await laptop.until("delta")
        await laptop.send(type="stop", turn_id=begun["turn_id"])
        await phone.until("done")


async def test_a_change_elsewhere_is_told(address: str, alice: httpx.AsyncClient) -> None:
    async with opened(address, alice) as socket:
        await socket.send(type="watch", conversation_id="another")
        await socket.send(type="resume", turn_id="nothing")
        assert (await socket.next())["type"] == "error"  # so watching has begun
        told = (await alice.post(f"{V1}/chat", json={"message": "hi"})).json()
        changed = await socket.next()
        assert changed == {
            "type": "changed",
            "what": "conversation",
            "id": told["conversation_id"],
        }


async def test_a_wrong_frame_is_answered_and_the_socket_stays_open(
    address: str, alice: httpx.AsyncClient
) -> None:
    async with opened(address, alice) as socket:
        for wrong in (
            "{",
            "[]",
            "7",
            '"say"',
            '{"type":"dance"}',
            '{"type":"say"}',
            '{"type":"say","message":"x","surprise":1}',
            '{"type":"say","message":"a\\u0000b"}',
            '{"type":"say","message":"\\ud800"}',
            '{"type":"resume","turn_id":"x","after":-1}',
            '{"type":"say","message":NaN}',
            "[" * 100 + "]" * 100,
        ):
            await socket.connection.send(wrong)
            frame = await socket.next()
            assert frame["type"] == "error", wrong
            assert frame["problem"]["status"] in (400, 422), wrong
        await socket.connection.send(b"\x00\x01")
        assert (await socket.next())["type"] == "error"
        await socket.send(type="say", message="", client_id="mine")
        frame = await socket.next()
        assert frame["client_id"] == "mine"
        assert frame["problem"]["errors"]
        await socket.send(type="say", message="still here")
        assert (await socket.until("done"))[-1]["message"]["text"] == "still here"


async def test_a_bad_ticket_is_closed_with_4401(address: str, alice: httpx.AsyncClient) -> None:
    used = await ticket(alice)
    async with joined(address, used):
        pass
    for bad in ("", "nonsense", used):
        async with joined(address, bad) as connection:
            with pytest.raises(websockets.ConnectionClosed):
                await connection.recv()
            assert connection.close_code == 4401


async def test_a_slow_reader_slows_nobody_and_misses_nothing(
    address: str, alice: httpx.AsyncClient
) -> None:
    url = f"ws://{address}{V1}/ws/chat?ticket={await ticket(alice)}"
    async with websockets.connect(url, max_queue=1) as slow:
        await slow.send(json.dumps({"type": "watch"}))
        words = "x" * 400
        began = asyncio.get_running_loop().time()
        told = (
            await alice.post(f"{V1}/chat", json={"message": f"[[delay 1ms]] {(words + ' ') * 70}"})
        ).json()
        assert asyncio.get_running_loop().time() - began < 5
        await asyncio.sleep(0.2)  # only now it begins to read
        text, seqs = "", []
        async with asyncio.timeout(10):
            async for raw in slow:
                frame = json.loads(raw)
                if frame["type"] == "changed":
                    continue
                seqs.append(frame["seq"])
                text += frame["text"] if frame["type"] == "delta" else ""
                if frame["type"] == "done":
                    break
        assert text == told["message"]["text"]
        assert seqs == list(range(1, len(seqs) + 1))


async def test_the_page_gets_finished_blocks(address: str, alice: httpx.AsyncClient) -> None:
    async with opened(address, alice) as socket:
        await socket.send(type="watch", render="html")
        await socket.send(type="say", message="**bold** words")
        frames = await socket.until("done")
        block = frames[-2]
        assert block["type"] == "block"
        assert block["index"] == 0
        assert block["upto"] == len(frames[-1]["message"]["text"])
        assert "<strong>bold</strong>" in block["html"]
        assert "seq" not in block


async def test_words_said_again_after_a_cut_are_one_turn(
    address: str, alice: httpx.AsyncClient
) -> None:
    said = {"message": "only once", "client_id": "c1"}
    async with opened(address, alice) as socket:
        await socket.send(type="say", idempotency_key="k1", **said)
        first = (await socket.until("done"))[-1]
    async with opened(address, alice) as socket:
        await socket.send(type="say", idempotency_key="k1", **said)
        again = await socket.until("done")
        assert [one.get("client_id") for one in again if one["type"] == "started"] == ["c1"]
        assert again[-1] == first
        await socket.send(type="say", idempotency_key="k1", message="other words")
        fault = (await socket.until("error"))[-1]
        assert fault["problem"]["type"].endswith("idempotency-key-reused")
    posted = await alice.post(f"{V1}/chat", json=said, headers={"idempotency-key": "k1"})
    assert posted.json()["turn_id"] == first["turn_id"]


async def test_who_leaves_stops_no_turn(address: str, alice: httpx.AsyncClient, body: Body) -> None:
    async with opened(address, alice) as socket:
        await socket.send(type="say", message="[[words 5]] [[delay 30ms]]")
        turn_id = (await socket.until("started"))[-1]["turn_id"]
    me = (await alice.get(f"{V1}/me")).json()["id"]
    last = None
    async with asyncio.timeout(10):
        async for event in body.cortex.listen(me, turn_id):
            last = event
    assert last is not None
    assert last.type == "done"
