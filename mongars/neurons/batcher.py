"""Joins what is asked at the same time into batches; questions go first."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass

from mongars.errors import Unavailable
from mongars.neurons.ports import Encoder, Kind

TEXTS_PER_CALL = 32


@dataclass(eq=False)
class _Asked:
    """One text that somebody waits for."""

    text: str
    answer: asyncio.Future[bytes]


class Batcher:
    """One call of the encoder at a time; what came meanwhile is the next one."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._waiting: dict[Kind, deque[_Asked]] = {"query": deque(), "passage": deque()}
        self._arrived = asyncio.Event()
        self._closed = False

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, encoder: Encoder) -> AsyncGenerator["Batcher"]:
        """Open it; it works until the block ends."""
        batcher = cls(encoder)
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(batcher._work())
            try:
                yield batcher
            finally:
                working.cancel()
                batcher._leave()

    async def vector(self, text: str, kind: Kind) -> bytes:
        """The vector of a text: float32, little-endian. Raises what the encoder raises."""
        if self._closed:
            raise Unavailable("The encoder was closed.")
        asked = _Asked(text, asyncio.get_running_loop().create_future())
        self._waiting[kind].append(asked)
        self._arrived.set()
        return await asked.answer

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            kind: Kind = "query" if self._waiting["query"] else "passage"
            batch = self._take(kind)
            if batch:
                await self._answer(batch, kind)

    def _take(self, kind: Kind) -> list[_Asked]:
        """The next texts that are still waited for."""
        waiting, batch = self._waiting[kind], list[_Asked]()
        while waiting and len(batch) < TEXTS_PER_CALL:
            asked = waiting.popleft()
            if not asked.answer.done():
                batch.append(asked)
        if not any(self._waiting.values()):
            self._arrived.clear()
        return batch

    async def _answer(self, batch: list[_Asked], kind: Kind) -> None:
        """Ask for this batch; given up when nobody waits for any of it any more."""
        texts = [asked.text for asked in batch]
        call = asyncio.ensure_future(self._encoder.encode(texts, kind=kind))
        left = len(batch)

        def gone(_: asyncio.Future[bytes]) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                call.cancel()

        for asked in batch:
            asked.answer.add_done_callback(gone)
        try:
            vectors = await asyncio.shield(call)
        except asyncio.CancelledError:
            closing = not call.cancelled()
            call.cancel()
            _refuse(batch)
            if closing:
                raise
        except Exception as error:  # noqa: BLE001 - the end of a unit of work: its callers get it
            for asked in batch:
                if not asked.answer.done():
                    asked.answer.set_exception(error)
        else:
            for asked, vector in zip(batch, vectors, strict=True):
                if not asked.answer.done():
                    asked.answer.set_result(vector.astype("<f4").tobytes())

    def _leave(self) -> None:
        self._closed = True
        for waiting in self._waiting.values():
            _refuse(waiting)


def _refuse(asked: Iterable[_Asked]) -> None:
    for one in asked:
        if not one.answer.done():
            one.answer.set_exception(Unavailable("The encoder was closed."))
