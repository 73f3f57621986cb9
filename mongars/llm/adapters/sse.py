"""Server-sent events over aiohttp, read with little work: whole chunks, no line objects."""

import asyncio
from collections.abc import AsyncGenerator

import aiohttp

from mongars.errors import Unavailable

_LONGEST_LINE_BYTES = 16 * 2**20


class Patience:
    """Closes a response when nothing came for too long.

    One timer looks now and then, instead of one timer per token: what a token costs matters.
    """

    def __init__(self, response: aiohttp.ClientResponse, first_s: float, next_s: float) -> None:
        self.exhausted = False
        self._response = response
        self._next_s = next_s
        self._loop = asyncio.get_running_loop()
        self._deadline: float | None = self._loop.time() + first_s
        self._timer = self._loop.call_at(self._deadline, self._look)

    def waiting(self) -> None:
        """The next piece is waited for from now on."""
        self._deadline = self._loop.time() + self._next_s

    def busy(self) -> None:
        """A piece came; while it is worked on, the server is not waited for."""
        self._deadline = None

    def end(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        at = self._loop.time()
        if self._deadline is not None and self._deadline <= at:
            self.exhausted = True
            self._response.close()
            return
        self._timer = self._loop.call_at(self._deadline or at + self._next_s, self._look)


async def data_lines(
    response: aiohttp.ClientResponse, patience: Patience
) -> AsyncGenerator[bytes, None]:
    """The content of every `data:` line, until the stream ends."""
    content, rest = response.content, b""
    while chunk := await content.readany():
        patience.busy()
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST_LINE_BYTES:
            raise Unavailable("The model's server sends a line without end.")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
        patience.waiting()
    if rest.startswith(b"data:"):
        yield rest[5:].strip()
