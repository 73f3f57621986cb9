"""Server-sent events: bytes that are ready, as they come, and a sign of life in between."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

from starlette.types import Send

from mongars.api.departure import StreamWhileListening
from mongars.cortex import Event

EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
"""What a route that answers events says of them."""

KEEP_ALIVE_S = 15.0
"""After how long a silence a comment is sent, in seconds, so that no proxy closes the stream."""


class EventStream(StreamWhileListening):
    """A stream of events; it ends when they do, or as soon as the reader leaves."""

    async def stream_response(self, send: Send) -> None:
        """Send each piece at once, and comments while there are none."""
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        ended = False

        async def keep_alive() -> None:
            while not ended:
                await asyncio.sleep(max(0.1, sent_at + KEEP_ALIVE_S - loop.time()))
                if not ended and loop.time() - sent_at >= KEEP_ALIVE_S:
                    await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})

        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        alive = asyncio.ensure_future(keep_alive())
        try:
            async for piece in self.body_iterator:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                sent_at = loop.time()
        finally:
            ended = True
            alive.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def stream(pieces: AsyncIterable[bytes]) -> EventStream:
    """The answer that sends these pieces, each one a whole event."""
    return EventStream(pieces, media_type="text/event-stream")


async def frames(events: AsyncGenerator[Event, None]) -> AsyncGenerator[bytes, None]:
    """The events of a turn as they are sent."""
    async with contextlib.aclosing(events):
        async for event in events:
            yield b"event: %b\nid: %d\ndata: %b\n\n" % (
                event.type.encode(),
                event.seq,
                event.json,
            )
