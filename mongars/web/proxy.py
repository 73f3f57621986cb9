"""The socket's way through a page that runs apart from the API: frames as they are, both ways."""

import asyncio
import contextlib

from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

TRY_AGAIN = 1013
"""Close code for: the API is away, come back later (RFC 6455's registry)."""


async def relay(api_url: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Join the browser's socket with one to the API until either side closes."""
    if (await receive())["type"] != "websocket.connect":
        return
    query = scope.get("query_string", b"").decode("latin-1")
    url = f"{api_url.rstrip('/').replace('http', 'ws', 1)}{scope['path']}?{query}"
    forwarded = {"x-forwarded-for": scope["client"][0]} if scope.get("client") else {}
    try:
        upstream = await connect(
            url, additional_headers=forwarded, compression=None, max_size=None, proxy=None
        )
    except (OSError, TimeoutError, InvalidHandshake, InvalidURI):
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": TRY_AGAIN})
        return
    async with upstream:
        await send({"type": "websocket.accept"})
        ways = [
            asyncio.create_task(_outward(receive, upstream)),
            asyncio.create_task(_inward(upstream, send)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


async def _outward(receive: Receive, upstream: ClientConnection) -> None:
    """What the browser says, until it leaves."""
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        with contextlib.suppress(ConnectionClosed):
            await upstream.send(message["bytes"] if text is None else text)
    await upstream.close(message.get("code") or 1000)


async def _inward(upstream: ClientConnection, send: Send) -> None:
    """What the API says, and the code it closes with."""
    try:
        async for frame in upstream:
            kind = "text" if isinstance(frame, str) else "bytes"
            await send({"type": "websocket.send", kind: frame})
    except ConnectionClosed:
        pass
    await send({"type": "websocket.close", "code": _sendable(upstream.close_code)})


def _sendable(code: int | None) -> int:
    """1005 and 1006 say that no code was sent; they cannot be sent themselves (RFC 6455, 7.4.1)."""
    return TRY_AGAIN if code in (None, 1005, 1006) else int(code or TRY_AGAIN)
