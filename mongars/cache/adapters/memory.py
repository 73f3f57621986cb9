"""Entries in this process, bounded by bytes; the least recently used go first."""

from collections import OrderedDict
from collections.abc import Callable

from mongars.cache.entry import Entry

OVERHEAD_BYTES = 300
"""What an entry costs beside its value: key, tags, places in the tables."""


class MemoryTier:
    """The fastest tier. An entry larger than a quarter of it is not kept."""

    name = "memory"

    def __init__(self, limit_bytes: int, clock: Callable[[], float]) -> None:
        self._limit = limit_bytes
        self._clock = clock
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._tagged: dict[bytes, set[bytes]] = {}
        self.used_bytes = 0

    def peek(self, key: bytes) -> Entry | None:
        """`get` without a moment's wait."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_at <= self._clock():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    async def get(self, key: bytes) -> Entry | None:
        """The entry, unless it is not there or has ended."""
        return self.peek(key)

    async def put(self, key: bytes, entry: Entry) -> None:
        """Keep an entry; others make room for it."""
        if key in self._entries:
            self._drop(key)
        cost = _cost(entry)
        if cost * 4 > self._limit:
            return
        while self.used_bytes + cost > self._limit:
            self._drop(next(iter(self._entries)))
        self._entries[key] = entry
        self.used_bytes += cost
        for tag in entry.tags:
            self._tagged.setdefault(tag, set()).add(key)

    async def forget(self, tag: bytes) -> int:
        """Remove every entry with this tag."""
        keys = tuple(self._tagged.get(tag, ()))
        for key in keys:
            self._drop(key)
        return len(keys)

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key)
        self.used_bytes -= _cost(entry)
        for tag in entry.tags:
            keys = self._tagged[tag]
            keys.discard(key)
            if not keys:
                del self._tagged[tag]


def _cost(entry: Entry) -> int:
    return len(entry.value) + OVERHEAD_BYTES
