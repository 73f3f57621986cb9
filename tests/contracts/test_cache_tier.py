"""What every tier of the cache promises: memory, Redis, disk, and the twin."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from mongars.cache import CacheSettings, CacheTier, Entry
from mongars.cache.adapters.disk import DiskTier
from mongars.cache.adapters.memory import MemoryTier
from mongars.cache.adapters.redis import RedisTier
from mongars.testing.cache import DictTier

KEY, OTHER = b"k" * 20, b"o" * 20
ANN, BOB = b"a" * 16, b"b" * 16
START = 1_800_000_000.0


class Clock:
    """A clock that a test puts forward."""

    now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "redis", "disk", "twin"])
async def tier(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> AsyncIterator[CacheTier]:
    if request.param == "memory":
        yield MemoryTier(1 << 20, clock)
    elif request.param == "twin":
        yield DictTier(clock)
    elif request.param == "disk":
        async with DiskTier.open(tmp_path, 1 << 20, clock) as disk:
            yield disk
    else:
        async with Redis.from_url(request.getfixturevalue("redis_url")) as redis:
            await redis.flushdb()
            yield RedisTier(redis, CacheSettings(redis_timeout_s=5), clock)


@pytest.mark.parametrize("value", [b"", b"\x00\xff\r\n\x01", b"x" * 100_000])
async def test_an_entry_comes_back_byte_for_byte(tier: CacheTier, value: bytes) -> None:
    entry = Entry(value, START + 60, (ANN, BOB))
    await tier.put(KEY, entry)
    assert await tier.get(KEY) == entry


async def test_what_was_never_put_is_not_there(tier: CacheTier) -> None:
    assert await tier.get(KEY) is None
    assert await tier.forget(ANN) == 0


async def test_a_newer_entry_takes_the_place_of_the_older(tier: CacheTier) -> None:
    await tier.put(KEY, Entry(b"old", START + 60, (ANN,)))
    await tier.put(KEY, Entry(b"new", START + 60, (BOB,)))
    found = await tier.get(KEY)
    assert found is not None
    assert found.value == b"new"
    assert await tier.forget(BOB) == 1
    assert await tier.get(KEY) is None


async def test_an_entry_ends_at_its_time(tier: CacheTier, clock: Clock) -> None:
    await tier.put(KEY, Entry(b"brief", START + 60))
    clock.now = START + 59
    assert await tier.get(KEY) is not None
    clock.now = START + 60
    assert await tier.get(KEY) is None


async def test_forgetting_takes_what_has_the_tag_and_nothing_else(tier: CacheTier) -> None:
    await tier.put(KEY, Entry(b"hers", START + 60, (ANN,)))
    await tier.put(b"2" * 20, Entry(b"theirs", START + 60, (ANN, BOB)))
    await tier.put(OTHER, Entry(b"his", START + 60, (BOB,)))
    assert await tier.forget(ANN) == 2
    assert await tier.get(KEY) is None
    assert await tier.get(b"2" * 20) is None
    assert await tier.get(OTHER) is not None
    assert await tier.forget(ANN) == 0
