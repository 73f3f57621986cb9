"""A tier of the cache that goes away, and holds up, when it is told to."""

import asyncio
from collections.abc import Callable

from mongars.cache import CacheTier, Entry
from mongars.errors import Unavailable


class DictTier(CacheTier):
    """Entries in a dictionary."""

    name = "twin"

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.entries: dict[bytes, Entry] = {}
        self.away = False
        """Whether it refuses to answer."""
        self.gate = asyncio.Event()
        """While not set, `put` waits before it keeps anything."""
        self.gate.set()
        self.asked = asyncio.Event()
        """Set once `put` was called."""

    async def get(self, key: bytes) -> Entry | None:
        """The entry, unless it is not there or has ended."""
        self._answer()
        entry = self.entries.get(key)
        return None if entry is None or entry.expires_at <= self._clock() else entry

    async def put(self, key: bytes, entry: Entry) -> None:
        """Keep an entry, once the gate is open."""
        self._answer()
        self.asked.set()
        await self.gate.wait()
        self.entries[key] = entry

    async def forget(self, tag: bytes) -> int:
        """Remove every entry with this tag."""
        self._answer()
        keys = [key for key, entry in self.entries.items() if tag in entry.tags]
        for key in keys:
            del self.entries[key]
        return len(keys)

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("This tier was told to be away.")
