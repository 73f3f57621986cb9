"""The port of a place that holds entries."""

from typing import Protocol

from mongars.cache.entry import Entry


class CacheTier(Protocol):
    """A place that holds entries for a while.

    Faults: `Unavailable` when it does not answer, within a time that its settings bound. A spoilt
    entry is not a fault: it is removed and counts as a miss.
    """

    @property
    def name(self) -> str:
        """Its name in metrics: `memory`, `redis`, `disk`."""
        ...

    async def get(self, key: bytes) -> Entry | None:
        """The entry, unless it is not there or has ended."""
        ...

    async def put(self, key: bytes, entry: Entry) -> None:
        """Keep an entry, in the place of the one before."""
        ...

    async def forget(self, tag: bytes) -> int:
        """Remove every entry with this tag; how many there were."""
        ...
