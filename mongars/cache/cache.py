"""The cache of several tiers: what is asked for is looked up, or made once for all who ask.

What is asked at the same time is made once: it is made in a task of its own, so that the first
caller leaving takes nothing from the others, and it is given up when the last one leaves. A tier
that does not answer is left alone for a while; no caller ever sees its fault.

Forgetting: while it runs, nothing that was begun before is stored any more, so that a value on its
way cannot come back after its owner was forgotten.
"""

import asyncio
import contextlib
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterator,
    Sequence,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from opentelemetry import metrics
from opentelemetry.metrics import Meter

from mongars.cache.adapters.disk import DiskTier
from mongars.cache.adapters.memory import MemoryTier
from mongars.cache.entry import Entry, Forgotten, key_of, owner_tag, tag_of, tags_of
from mongars.cache.ports import CacheTier
from mongars.cache.settings import CacheSettings
from mongars.errors import Unavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from mongars.cache.adapters.redis import Forgettings

log = structlog.get_logger()


@dataclass(eq=False)
class _Part:
    """A tier in its place: how long it may hold, whether it is away, what it has yet to forget."""

    tier: CacheTier
    ttl_s: float
    away_until: float | None = None
    owed: set[bytes] = field(default_factory=set)


@dataclass(eq=False)
class _Ticket:
    """Something on its way into the cache; stale once anything was forgotten meanwhile."""

    stale: bool = False


@dataclass(eq=False)
class _Flight:
    """One value being made, and how many wait for it."""

    task: asyncio.Task[bytes]
    waiting: int = 0


class TieredCache:
    """Bytes by namespace, key and owner: memory, then Redis where configured, then disk."""

    def __init__(
        self,
        settings: CacheSettings,
        parts: list[_Part],
        meter: Meter,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._clock = clock
        self._flights: dict[bytes, _Flight] = {}
        self._tasks: set[asyncio.Task[bytes]] = set()
        self._tickets: set[_Ticket] = set()
        self._writes: set[asyncio.Future[None]] = set()
        self._forgettings: Forgettings | None = None
        self._hits = meter.create_counter("mongars.cache.hits", description="Found in a tier.")
        self._misses = meter.create_counter(
            "mongars.cache.misses", description="Looked for in a tier and not found."
        )
        for part in parts:  # shown from the start, so that a rate can be told from the first hit on
            self._hits.add(0, {"tier": part.tier.name})
            self._misses.add(0, {"tier": part.tier.name})

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        settings: CacheSettings,
        data_dir: Path,
        redis: "Redis | None",
        *,
        meter: Meter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> AsyncGenerator["TieredCache"]:
        """Open the tiers that the settings name; Redis and disk may come and go later."""
        async with contextlib.AsyncExitStack() as stack:
            tiers: list[tuple[CacheTier, float]] = []
            if settings.memory_bytes:
                tiers.append((MemoryTier(settings.memory_bytes, clock), settings.memory_ttl_s))
            forgettings = None
            if redis is not None:
                from mongars.cache.adapters.redis import Forgettings, RedisTier

                tiers.append((RedisTier(redis, settings, clock), settings.redis_ttl_s))
                forgettings = Forgettings(redis, settings, clock)
            if settings.disk_bytes:
                disk = DiskTier.open(data_dir / "cache", settings.disk_bytes, clock)
                tiers.append((await stack.enter_async_context(disk), settings.disk_ttl_s))
            cache = await stack.enter_async_context(
                cls.over(settings, tiers, meter=meter, clock=clock)
            )
            if forgettings is not None:
                cache._forgettings = forgettings
                await stack.enter_async_context(_running(cache._hear(forgettings)))
            yield cache

    @classmethod
    @contextlib.asynccontextmanager
    async def over(
        cls,
        settings: CacheSettings,
        tiers: Sequence[tuple[CacheTier, float]],
        *,
        meter: Meter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> AsyncGenerator["TieredCache"]:
        """The same over tiers that are open already, each with its longest time in seconds."""
        parts = [_Part(tier, ttl_s) for tier, ttl_s in tiers]
        cache = cls(settings, parts, meter or metrics.get_meter("mongars"), clock)
        try:
            yield cache
        finally:
            await cache._land()

    @property
    def away(self) -> tuple[str, ...]:
        """The tiers that do not answer at the moment."""
        return tuple(p.tier.name for p in self._parts if p.away_until is not None)

    async def get(self, namespace: str, key: str, *, owner_id: str | None) -> bytes | None:
        """What was kept under this key for this owner, if it still is."""
        with self._ticket() as ticket:
            entry = await self._look(namespace, key_of(namespace, key, owner_id), ticket)
        return None if entry is None else entry.value

    async def put(
        self,
        namespace: str,
        key: str,
        value: bytes,
        *,
        owner_id: str | None,
        ttl_s: float | None = None,
        tags: Collection[str] = (),
    ) -> None:
        """Keep a value in every tier, for `ttl_s` or as long as each tier keeps things."""
        entry = self._entry(value, owner_id, ttl_s, tags)
        with self._ticket() as ticket:
            await self._store(key_of(namespace, key, owner_id), entry, self._parts, ticket)

    async def get_or_make(
        self,
        namespace: str,
        key: str,
        make: Callable[[], Awaitable[bytes]],
        *,
        owner_id: str | None,
        ttl_s: float | None = None,
        tags: Collection[str] = (),
    ) -> bytes:
        """What is kept under this key, or what `make` gives: once for all who ask meanwhile.

        A fault of `make` goes to everybody who waits, and is not kept.
        """
        hashed = key_of(namespace, key, owner_id)
        flight = self._flights.get(hashed)
        if flight is None:
            near = self._peek(namespace, hashed)
            if near is not None:
                return near.value

            async def fly() -> bytes:
                with self._ticket() as ticket:
                    found = await self._look(namespace, hashed, ticket, beyond_memory=True)
                    if found is not None:
                        return found.value
                    value = await make()
                    entry = self._entry(value, owner_id, ttl_s, tags)
                    await self._store(hashed, entry, self._parts, ticket)
                    return value

            flight = self._start(hashed, fly())
        return await self._wait(hashed, flight)

    async def forget(self, owner_id: str) -> Forgotten:
        """Remove everything kept for this owner, in every tier and in the other processes."""
        return await self._forget(owner_tag(owner_id))

    async def forget_tag(self, tag: str) -> Forgotten:
        """Remove everything that carries this tag, in every tier and in the other processes."""
        return await self._forget(tag_of(tag))

    # -- one flight for all ----------------------------------------------------------------------

    def _start(self, key: bytes, flying: Coroutine[None, None, bytes]) -> _Flight:
        task = asyncio.create_task(flying)
        self._tasks.add(task)
        flight = self._flights[key] = _Flight(task)

        def landed(done: asyncio.Task[bytes]) -> None:
            self._tasks.discard(done)
            if self._flights.get(key) is flight:
                del self._flights[key]
            if not done.cancelled():
                done.exception()

        task.add_done_callback(landed)
        return flight

    async def _wait(self, key: bytes, flight: _Flight) -> bytes:
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError as error:
            me = asyncio.current_task()
            if flight.task.cancelled() and me is not None and not me.cancelling():
                raise Unavailable("The work was broken off; please try again.") from error
            raise
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 and not flight.task.done():
                if self._flights.get(key) is flight:
                    del self._flights[key]
                flight.task.cancel()

    async def _land(self) -> None:
        """Give up what is still being made."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- through the tiers -----------------------------------------------------------------------

    def _peek(self, namespace: str, key: bytes) -> Entry | None:
        """Look into memory only, at once."""
        for part in self._parts:
            if isinstance(part.tier, MemoryTier):
                return self._counted(part, namespace, part.tier.peek(key))
        return None

    async def _look(
        self, namespace: str, key: bytes, ticket: _Ticket, *, beyond_memory: bool = False
    ) -> Entry | None:
        """The entry from the first tier that has it; the tiers before it get it too."""
        for depth, part in enumerate(self._parts):
            if (beyond_memory and part.tier.name == "memory") or not await self._reachable(part):
                continue
            try:
                entry = await part.tier.get(key)
            except Unavailable as fault:
                self._mark_away(part, fault)
                continue
            if self._counted(part, namespace, entry) is not None:
                assert entry is not None
                await self._store(key, entry, self._parts[:depth], ticket)
                return entry
        return None

    async def _store(
        self, key: bytes, entry: Entry, parts: Collection[_Part], ticket: _Ticket
    ) -> None:
        if ticket.stale or not parts:
            return
        with self._write():
            for part in parts:
                if not await self._reachable(part):
                    continue
                ends = min(entry.expires_at, self._clock() + part.ttl_s)
                try:
                    await part.tier.put(key, Entry(entry.value, ends, entry.tags))
                except Unavailable as fault:
                    self._mark_away(part, fault)

    def _entry(
        self, value: bytes, owner_id: str | None, ttl_s: float | None, tags: Collection[str]
    ) -> Entry:
        ends = float("inf") if ttl_s is None else self._clock() + ttl_s
        return Entry(value, ends, tags_of(owner_id, tags))

    def _counted(self, part: _Part, namespace: str, entry: Entry | None) -> Entry | None:
        counter = self._misses if entry is None else self._hits
        counter.add(1, {"tier": part.tier.name, "namespace": namespace})
        return entry

    # -- tiers that go away ----------------------------------------------------------------------

    async def _reachable(self, part: _Part) -> bool:
        """Whether to ask this tier now; what it was owed while it was away comes first."""
        if part.away_until is None:
            return True
        if self._clock() < part.away_until:
            return False
        try:
            await self._settle(part)
        except Unavailable as fault:
            self._mark_away(part, fault)
            return False
        part.away_until = None
        log.info("cache.tier_back", tier=part.tier.name)
        return True

    async def _settle(self, part: _Part) -> None:
        for tag in tuple(part.owed):
            await part.tier.forget(tag)
            if part.tier.name == "redis" and self._forgettings is not None:
                await self._forgettings.tell(tag)
            part.owed.discard(tag)

    def _mark_away(self, part: _Part, fault: Unavailable) -> None:
        if part.away_until is None:
            log.warning("cache.tier_away", tier=part.tier.name, reason=fault.detail)
        part.away_until = self._clock() + self._settings.retry_s

    # -- forgetting ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _ticket(self) -> Iterator[_Ticket]:
        ticket = _Ticket()
        self._tickets.add(ticket)
        try:
            yield ticket
        finally:
            self._tickets.discard(ticket)

    @contextlib.contextmanager
    def _write(self) -> Iterator[None]:
        ended = asyncio.get_running_loop().create_future()
        self._writes.add(ended)
        try:
            yield
        finally:
            self._writes.discard(ended)
            ended.set_result(None)

    async def _forget(self, tag: bytes, *, told: bool = True) -> Forgotten:
        for ticket in self._tickets:
            ticket.stale = True
        if self._writes:
            await asyncio.wait(self._writes)
        entries, away = 0, []
        for part in self._parts:
            if part.tier.name == "redis" and not told:
                continue
            part.owed.add(tag)
            try:
                entries += await part.tier.forget(tag)
                await self._settle(part)
            except Unavailable as fault:
                self._mark_away(part, fault)
                away.append(part.tier.name)
        return Forgotten(entries, tuple(away))

    async def _hear(self, forgettings: "Forgettings") -> None:
        """Forget here what other processes forget."""
        async with contextlib.aclosing(forgettings.hear()) as heard:
            async for tag in heard:
                await self._forget(tag, told=False)


@contextlib.asynccontextmanager
async def _running(work: Awaitable[None]) -> AsyncGenerator[None]:
    """A task that runs until the block ends."""
    async with asyncio.TaskGroup() as tasks:

        async def run() -> None:
            await work

        task = tasks.create_task(run())
        try:
            yield
        finally:
            task.cancel()
