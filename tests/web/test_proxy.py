"""The socket's way through a page that runs apart from the API."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from mongars.web.proxy import relay
from tests.servers import free_port


class BrowserSide:
    """The browser's end of the socket, as ASGI tells it."""

    def __init__(self) -> None:
        self.inward: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.outward: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def heard(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.outward.get(), 5)


async def _echo(socket: ServerConnection) -> None:
    assert socket.request is not None
    await socket.send(f"{socket.request.path} {socket.request.headers['x-forwarded-for']}")
    async for frame in socket:
        if frame == "leave":
            await socket.close(4401)
            return
        await socket.send(frame)


@pytest.fixture
async def api_url() -> AsyncIterator[str]:
    async with serve(_echo, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.asynccontextmanager
async def joined(url: str) -> AsyncIterator[BrowserSide]:
    side = BrowserSide()
    scope = {
        "type": "websocket",
        "path": "/api/v1/ws/chat",
        "query_string": b"ticket=abc",
        "client": ("192.0.2.7", 1),
    }
    await side.inward.put({"type": "websocket.connect"})
    task = asyncio.create_task(relay(url, scope, side.inward.get, side.outward.put))  # type: ignore[arg-type]
    assert (await side.heard())["type"] == "websocket.accept"
    try:
        yield side
        await asyncio.wait_for(task, 5)
    finally:
        task.cancel()


async def test_frames_go_both_ways_as_they_are(api_url: str) -> None:
    async with joined(api_url) as side:
        first = await side.heard()
        assert first["text"] == "/api/v1/ws/chat?ticket=abc 192.0.2.7"
        await side.inward.put({"type": "websocket.receive", "text": "héllo"})
        assert (await side.heard())["text"] == "héllo"
        await side.inward.put({"type": "websocket.receive", "bytes": b"\x00\xff", "text": None})
        assert (await side.heard())["bytes"] == b"\x00\xff"
        await side.inward.put({"type": "websocket.disconnect", "code": 1001})


async def test_the_api_s_close_code_reaches_the_browser(api_url: str) -> None:
    async with joined(api_url) as side:
        await side.heard()
        await side.inward.put({"type": "websocket.receive", "text": "leave"})
        assert await side.heard() == {"type": "websocket.close", "code": 4401}


async def test_an_api_that_is_away_closes_with_try_again_later() -> None:
    async with joined(f"http://127.0.0.1:{free_port()}") as side:
        assert await side.heard() == {"type": "websocket.close", "code": 1013}
