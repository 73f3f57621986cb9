"""Ending work when the one who asked for it is gone."""

import asyncio
from collections.abc import AsyncIterable, Awaitable
from typing import TypeVar

from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from mongars.errors import Fault

Result = TypeVar("Result")


class Left(Fault):
    """The caller left before the answer; nobody reads this."""

    slug, title = "caller-left", "The caller left"


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_listening(request: Request, work: Awaitable[Result]) -> Result:
    """The result of `work`, which is cancelled when the caller leaves. Raises `Left` then."""
    await request.body()  # what still comes after this is the departure
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Left("The caller left before the answer was there.")
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


class StreamWhileListening(StreamingResponse):
    """A stream that ends as soon as its reader leaves, also while there is nothing to send."""

    def __init__(self, content: AsyncIterable[bytes], media_type: str) -> None:
        super().__init__(content, media_type=media_type, headers={"x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end or the departure, whichever comes first."""
        sending = asyncio.ensure_future(self.stream_response(send))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            if hasattr(self.body_iterator, "aclose"):
                await self.body_iterator.aclose()
