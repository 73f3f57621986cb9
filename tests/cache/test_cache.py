"""The cache over real tiers: memory, a real Redis, a real file."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from redis.asyncio import Redis

from mongars.cache import CacheSettings, TieredCache
from mongars.errors import Unavailable
from mongars.testing.cache import DictTier
from tests.servers import free_port, wait_for_port

SETTINGS = CacheSettings(redis_timeout_s=5)


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Maker:
    """Makes a value when told to, and counts how often it was asked."""

    def __init__(self, value: bytes = b"made") -> None:
        self.value = value
        self.calls = 0
        self.cancelled = False
        self.begun = asyncio.Event()
        self.finish = asyncio.Event()

    async def __call__(self) -> bytes:
        self.calls += 1
        self.begun.set()
        try:
            await self.finish.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.value


async def made() -> bytes:
    return b"made"


async def never() -> bytes:
    raise AssertionError("this is in the cache already")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        await client.flushdb()
        yield client


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[TieredCache]:
    async with TieredCache.open(SETTINGS, tmp_path, None) as cache:
        yield cache


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.01)


# -- made once -----------------------------------------------------------------------------------


async def test_a_hundred_equal_questions_are_one_call(local: TieredCache) -> None:
    make = Maker()
    asked = [
        asyncio.create_task(local.get_or_make("n", "k", make, owner_id="ann")) for _ in range(100)
    ]
    await make.begun.wait()
    make.finish.set()
    assert await asyncio.gather(*asked) == [b"made"] * 100
    assert make.calls == 1
    assert await local.get_or_make("n", "k", never, owner_id="ann") == b"made"


async def test_the_others_get_the_value_when_the_first_caller_leaves(local: TieredCache) -> None:
    make = Maker()
    first, *others = (
        asyncio.create_task(local.get_or_make("n", "k", make, owner_id=None)) for _ in range(5)
    )
    await make.begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    make.finish.set()
    assert await asyncio.gather(*others) == [b"made"] * 4
    assert make.calls == 1


async def test_making_is_given_up_when_the_last_caller_leaves(local: TieredCache) -> None:
    make = Maker()
    asked = [
        asyncio.create_task(local.get_or_make("n", "k", make, owner_id=None)) for _ in range(3)
    ]
    await make.begun.wait()
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    assert await local.get_or_make("n", "k", made, owner_id=None) == b"made"
    assert make.cancelled


async def test_a_fault_goes_to_all_who_wait_and_is_not_kept(local: TieredCache) -> None:
    begun = asyncio.Event()

    async def fail() -> bytes:
        await begun.wait()
        raise Unavailable("away")

    asked = [
        asyncio.create_task(local.get_or_make("n", "k", fail, owner_id=None)) for _ in range(3)
    ]
    begun.set()
    faults = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(fault) for fault in faults] == [Unavailable] * 3
    assert await local.get_or_make("n", "k", made, owner_id=None) == b"made"


async def test_work_that_breaks_off_by_itself_is_a_fault(local: TieredCache) -> None:
    async def break_off() -> bytes:
        raise asyncio.CancelledError

    with pytest.raises(Unavailable):
        await local.get_or_make("n", "k", break_off, owner_id=None)


async def test_closing_gives_up_what_is_being_made(tmp_path: Path) -> None:
    make = Maker()
    async with TieredCache.open(SETTINGS, tmp_path, None) as cache:
        asked = asyncio.create_task(cache.get_or_make("n", "k", make, owner_id=None))
        await make.begun.wait()
    assert make.cancelled
    with pytest.raises(Unavailable):
        await asked


# -- what is kept, for whom, how long ------------------------------------------------------------


async def test_owners_and_namespaces_do_not_share(local: TieredCache) -> None:
    await local.put("n", "k", b"hers", owner_id="ann")
    assert await local.get("n", "k", owner_id="ann") == b"hers"
    assert await local.get("n", "k", owner_id="bob") is None
    assert await local.get("n", "k", owner_id=None) is None
    assert await local.get("m", "k", owner_id="ann") is None


async def test_each_tier_keeps_for_its_own_time(tmp_path: Path, redis: Redis) -> None:
    clock = Clock()
    start = clock.now
    settings = CacheSettings(memory_ttl_s=10, redis_ttl_s=100, disk_ttl_s=1000, redis_timeout_s=5)
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("mongars")
    async with TieredCache.open(settings, tmp_path, redis, meter=meter, clock=clock) as cache:
        await cache.put("n", "k", b"v", owner_id=None)
        for passed_s in (9, 11, 101, 500, 1001):
            clock.now = start + passed_s
            if passed_s == 500:
                await redis.flushdb()
            found = await cache.get("n", "k", owner_id=None)
            assert found == (None if passed_s > 1000 else b"v")
    assert hits(reader) == {"memory": 1, "redis": 1, "disk": 2}


async def test_a_value_may_have_a_shorter_time_of_its_own(tmp_path: Path) -> None:
    clock = Clock()
    async with TieredCache.open(SETTINGS, tmp_path, None, clock=clock) as cache:
        await cache.put("n", "k", b"v", owner_id=None, ttl_s=5)
        clock.now += 4
        assert await cache.get("n", "k", owner_id=None) == b"v"
        clock.now += 1
        assert await cache.get("n", "k", owner_id=None) is None


async def test_a_restart_finds_what_is_on_disk(tmp_path: Path) -> None:
    async with TieredCache.open(SETTINGS, tmp_path, None) as cache:
        await cache.put("n", "k", b"v", owner_id="ann")
    async with TieredCache.open(SETTINGS, tmp_path, None) as cache:
        assert await cache.get_or_make("n", "k", never, owner_id="ann") == b"v"


async def test_what_one_process_made_another_finds_in_redis(tmp_path: Path, redis: Redis) -> None:
    async with (
        TieredCache.open(SETTINGS, tmp_path / "a", redis) as one,
        TieredCache.open(SETTINGS, tmp_path / "b", redis) as two,
    ):
        assert await one.get_or_make("n", "k", made, owner_id="ann") == b"made"
        assert await two.get_or_make("n", "k", never, owner_id="ann") == b"made"


async def test_no_key_and_no_owner_can_be_read_anywhere(tmp_path: Path, redis: Redis) -> None:
    async with TieredCache.open(SETTINGS, tmp_path, redis) as cache:
        await cache.put("n", "what-was-asked", b"v", owner_id="annowner", tags=("a-tag",))
        await cache.forget_tag("some-other-tag")
        names = b"".join([key async for key in redis.scan_iter()])
        names += b"".join([await redis.dump(key) or b"" async for key in redis.scan_iter()])
        on_disk = b"".join(p.read_bytes() + bytes(p) for p in tmp_path.rglob("*") if p.is_file())
    for text in (b"what-was-asked", b"annowner", b"a-tag"):
        assert text not in names
        assert text not in on_disk


def hits(reader: InMemoryMetricReader, name: str = "mongars.cache.hits") -> dict[str, int]:
    data = reader.get_metrics_data()
    counted: dict[str, int] = {}
    for resource in data.resource_metrics if data is not None else ():
        for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
            for point in metric.data.data_points if metric.name == name else ():
                tier = str((point.attributes or {})["tier"])
                counted[tier] = counted.get(tier, 0) + int(getattr(point, "value", 0))
    return counted


async def test_hits_and_misses_are_counted_by_tier(tmp_path: Path) -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("mongars")
    async with TieredCache.open(SETTINGS, tmp_path, None, meter=meter) as cache:
        await cache.get_or_make("n", "k", made, owner_id=None)
        await cache.get_or_make("n", "k", made, owner_id=None)
    async with TieredCache.open(SETTINGS, tmp_path, None, meter=meter) as cache:
        await cache.get("n", "k", owner_id=None)
    assert hits(reader) == {"memory": 1, "disk": 1}
    assert hits(reader, "mongars.cache.misses") == {"memory": 2, "disk": 1}


# -- forgetting ----------------------------------------------------------------------------------


async def test_forgetting_an_owner_reaches_every_tier(tmp_path: Path, redis: Redis) -> None:
    secret = b"what only Ann knows, and nobody after her"
    async with TieredCache.open(SETTINGS, tmp_path, redis) as cache:
        for key in ("one", "two"):
            await cache.put("n", key, secret, owner_id="ann")
        await cache.put("n", "one", b"his", owner_id="bob")
        forgotten = await cache.forget("ann")
        assert (forgotten.entries, forgotten.away) == (6, ())
        assert await cache.get("n", "one", owner_id="ann") is None
        assert await cache.get("n", "one", owner_id="bob") == b"his"
        for key in [key async for key in redis.scan_iter()]:
            assert secret not in (await redis.dump(key) or b"")
        for path in tmp_path.rglob("*"):
            assert not path.is_file() or secret not in path.read_bytes()


async def test_forgetting_a_tag_reaches_what_was_found_on_disk(tmp_path: Path) -> None:
    async with TieredCache.open(SETTINGS, tmp_path, None) as cache:
        await cache.put("n", "k", b"v", owner_id="ann", tags=("conversation:1",))
        await cache.put("n", "l", b"v", owner_id="ann", tags=("conversation:2",))
    async with TieredCache.open(SETTINGS, tmp_path, None) as cache:
        assert await cache.get("n", "k", owner_id="ann") == b"v"
        assert (await cache.forget_tag("conversation:1")).entries == 2
        assert await cache.get("n", "k", owner_id="ann") is None
        assert await cache.get("n", "l", owner_id="ann") == b"v"


async def test_what_was_being_made_when_its_owner_was_forgotten_is_not_kept(
    local: TieredCache,
) -> None:
    make = Maker()
    asked = asyncio.create_task(local.get_or_make("n", "k", make, owner_id="ann"))
    await make.begun.wait()
    await local.forget("ann")
    make.finish.set()
    assert await asked == b"made"
    assert await local.get("n", "k", owner_id="ann") is None


async def test_forgetting_waits_for_what_is_being_written() -> None:
    tier = DictTier(time.time)
    async with TieredCache.over(SETTINGS, [(tier, 60.0)]) as cache:
        tier.gate.clear()
        put = asyncio.create_task(cache.put("n", "k", b"v", owner_id="ann"))
        await tier.asked.wait()
        forget = asyncio.create_task(cache.forget("ann"))
        await asyncio.sleep(0)
        tier.gate.set()
        await put
        assert (await forget).entries == 1
        assert tier.entries == {}


async def test_the_other_processes_forget_too(tmp_path: Path, redis: Redis) -> None:
    async with (
        TieredCache.open(SETTINGS, tmp_path / "a", redis) as one,
        TieredCache.open(SETTINGS, tmp_path / "b", redis) as two,
    ):
        await two.put("n", "k", b"v", owner_id="ann")
        await until(lambda: listening(redis, 2))
        await one.forget("ann")

        async def gone() -> bool:
            return await two.get("n", "k", owner_id="ann") is None

        await until(gone)


async def test_a_process_that_was_not_running_forgets_when_it_starts(
    tmp_path: Path, redis: Redis
) -> None:
    async with TieredCache.open(SETTINGS, tmp_path / "b", redis) as two:
        await two.put("n", "k", b"v", owner_id="ann")
    async with TieredCache.open(SETTINGS, tmp_path / "a", redis) as one:
        await one.forget("ann")
    async with TieredCache.open(SETTINGS, tmp_path / "b", redis) as two:

        async def gone() -> bool:
            return await two.get("n", "k", owner_id="ann") is None

        await until(gone)


async def listening(redis: Redis, processes: int) -> bool:
    return bool(
        dict(await redis.pubsub_numsub("mongars:cache:forgotten"))
        == {b"mongars:cache:forgotten": processes}
    )


# -- tiers that go away --------------------------------------------------------------------------


class Server:
    """A Redis of one test, to be ended and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder), "--appendonly", "yes", "--save", ""]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_for_port(self.port, self.process)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
async def server(tmp_path: Path, redis_url: str) -> AsyncIterator[Server]:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = Server(folder)
    yield server
    server.stop()


async def test_redis_may_go_and_come_back_and_nobody_sees_a_fault(
    tmp_path: Path, server: Server
) -> None:
    clock = Clock()
    settings = CacheSettings(memory_bytes=0, redis_timeout_s=2)
    async with (
        Redis.from_url(f"redis://127.0.0.1:{server.port}/0") as redis,
        TieredCache.open(settings, tmp_path, redis, clock=clock) as cache,
    ):
        await cache.put("n", "k", b"hers", owner_id="ann")
        await cache.put("n", "k", b"his", owner_id="bob")
        server.stop()
        assert await cache.get("n", "k", owner_id="ann") == b"hers"
        assert cache.away == ("redis",)
        assert (await cache.forget("ann")).away == ("redis",)
        server.start()
        assert await cache.get("n", "k", owner_id="ann") is None
        clock.now += settings.retry_s
        assert await cache.get("n", "k", owner_id="bob") == b"his"
        assert cache.away == ()
        keys = [key async for key in redis.scan_iter("mongars:cache:entry:*")]
        assert len(keys) == 1, "what was forgotten meanwhile is gone from Redis too"


async def test_what_was_forgotten_while_redis_was_away_reaches_the_others(
    tmp_path: Path, server: Server
) -> None:
    settings = CacheSettings(redis_timeout_s=2, retry_s=0.05)
    async with (
        Redis.from_url(f"redis://127.0.0.1:{server.port}/0") as redis,
        TieredCache.open(settings, tmp_path / "a", redis) as one,
        TieredCache.open(settings, tmp_path / "b", redis) as two,
    ):
        await two.put("n", "k", b"v", owner_id="ann")
        await until(lambda: listening(redis, 2))
        server.stop()
        assert (await one.forget("ann")).away == ("redis",)
        assert await two.get("n", "k", owner_id="ann") == b"v"
        server.start()

        async def gone() -> bool:
            await one.get("n", "something", owner_id=None)
            return await two.get("n", "k", owner_id="ann") is None

        await until(gone)


async def test_a_silent_redis_costs_one_time_out(tmp_path: Path, server: Server) -> None:
    settings = CacheSettings(memory_bytes=0, redis_timeout_s=0.2, retry_s=60)
    async with (
        Redis.from_url(f"redis://127.0.0.1:{server.port}/0") as redis,
        TieredCache.open(settings, tmp_path, redis) as cache,
    ):
        await cache.put("n", "k", b"v", owner_id=None)
        os.kill(server.process.pid, signal.SIGSTOP)
        begun = time.monotonic()
        for _ in range(20):
            assert await cache.get("n", "k", owner_id=None) == b"v"
        assert time.monotonic() - begun < 2
        assert cache.away == ("redis",)


async def test_a_tier_that_is_away_is_left_alone_until_its_time() -> None:
    clock = Clock()
    near, far = DictTier(clock), DictTier(clock)
    async with TieredCache.over(
        CacheSettings(retry_s=5), [(near, 60.0), (far, 600.0)], clock=clock
    ) as cache:
        near.away = True
        await cache.put("n", "k", b"v", owner_id="ann")
        near.away = False
        clock.now += 4
        assert await cache.get("n", "k", owner_id="ann") == b"v"
        assert near.entries == {}
        clock.now += 1
        assert await cache.get("n", "k", owner_id="ann") == b"v"
        assert len(near.entries) == 1
