"""The tier in Redis: entries that something else has touched."""

import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from mongars.cache import CacheSettings, Entry
from mongars.cache.adapters.redis import ENTRY, TAG, RedisTier

KEY, ANN = b"k" * 20, b"a" * 16


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        await client.flushdb()
        yield client


@pytest.fixture
def tier(redis: Redis) -> RedisTier:
    return RedisTier(redis, CacheSettings(redis_timeout_s=5, redis_ttl_s=60), time.time)


def entry() -> Entry:
    return Entry(b"value", time.time() + 30, (ANN,))


@pytest.mark.parametrize("at", [0, 5, 30, -1])
async def test_a_spoilt_entry_is_a_miss_and_removed(tier: RedisTier, redis: Redis, at: int) -> None:
    await tier.put(KEY, entry())
    packed = bytearray(await redis.get(ENTRY + KEY))
    packed[at] ^= 0xFF
    await redis.set(ENTRY + KEY, bytes(packed))
    assert await tier.get(KEY) is None
    assert not await redis.exists(ENTRY + KEY)


async def test_an_entry_that_forgetting_could_not_reach_is_a_miss(
    tier: RedisTier, redis: Redis
) -> None:
    await tier.put(KEY, entry())
    await redis.unlink(TAG + ANN)
    assert await tier.get(KEY) is None
    assert not await redis.exists(ENTRY + KEY)


async def test_everything_in_redis_ends_by_itself(tier: RedisTier, redis: Redis) -> None:
    await tier.put(KEY, entry())
    assert 0 < await redis.pttl(ENTRY + KEY) <= 30_000
    assert 0 < await redis.pttl(TAG + ANN) <= 60_000


async def test_what_has_ended_leaves_the_list_of_its_tag(redis: Redis) -> None:
    now = time.time()
    tier = RedisTier(redis, CacheSettings(redis_timeout_s=5), lambda: now)
    await tier.put(KEY, Entry(b"v", now + 1, (ANN,)))
    now += 2
    await tier.put(b"l" * 20, Entry(b"v", now + 60, (ANN,)))
    assert await redis.zrange(TAG + ANN, 0, -1) == [ENTRY + b"l" * 20]
