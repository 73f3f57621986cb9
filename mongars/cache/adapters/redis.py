"""Entries in Redis, shared between processes; and what one process forgets, told to the others.

An entry is one string. Its tags are sorted sets of keys scored by their end, so that forgetting a
tag is one script. An entry counts only while all its tags still list it: a server that evicts keys
may lose an entry or a tag, and never what forgetting needs to know.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from mongars.cache.entry import TAG_BYTES, Entry, pack, unpack
from mongars.cache.settings import CacheSettings
from mongars.errors import Unavailable
from mongars.ids import new_id

ENTRY = b"mongars:cache:entry:"
TAG = b"mongars:cache:tag:"
FORGOTTEN = b"mongars:cache:forgotten"
CHANNEL = "mongars:cache:forgotten"
SKEW_S = 60.0
"""By how much the clocks of two machines may differ."""

# KEYS[1] entry; ARGV[1] prefix of tags, ARGV[2] bytes in front of the number of tags,
# ARGV[3] bytes of a tag.
_GET = """
local packed = redis.call('GET', KEYS[1])
if not packed then return false end
local head, size = tonumber(ARGV[2]), tonumber(ARGV[3])
for n = 0, (string.byte(packed, head + 1) or 0) - 1 do
  local tag = string.sub(packed, head + 2 + n * size, head + 1 + (n + 1) * size)
  if not redis.call('ZSCORE', ARGV[1] .. tag, KEYS[1]) then
    redis.call('UNLINK', KEYS[1])
    return false
  end
end
return packed
"""

# KEYS[1] tag; returns how many entries there were.
_FORGET = """
local gone = 0
for _, key in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  gone = gone + redis.call('UNLINK', key)
end
redis.call('UNLINK', KEYS[1])
return gone
"""

_HEAD_BYTES = 28
"""Magic, checksum and end: what stands in front of the number of tags (see `entry.pack`)."""


class RedisTier:
    """The tier that processes share. Its fault is always `Unavailable`, after `redis_timeout_s`."""

    name = "redis"

    def __init__(self, redis: Redis, settings: CacheSettings, clock: Callable[[], float]) -> None:
        self._redis = redis
        self._clock = clock
        self._ttl_s = settings.redis_ttl_s
        self._timeout_s = settings.redis_timeout_s
        self._get = redis.register_script(_GET)
        self._forget = redis.register_script(_FORGET)

    async def get(self, key: bytes) -> Entry | None:
        """The entry, unless it is not there or has ended; a spoilt one is removed."""
        async with _answered(self._timeout_s):
            packed = await self._get(keys=[ENTRY + key], args=[TAG, _HEAD_BYTES, TAG_BYTES])
            if packed is None:
                return None
            entry = unpack(packed)
            if entry is None:
                await self._redis.unlink(ENTRY + key)
        if entry is None or entry.expires_at <= self._clock():
            return None
        return entry

    async def put(self, key: bytes, entry: Entry) -> None:
        """Keep an entry; it and its tags appear together."""
        now = self._clock()
        ends = min(entry.expires_at, now + self._ttl_s)
        left_ms = int((ends - now) * 1000)
        if left_ms <= 0:
            return
        async with _answered(self._timeout_s), self._redis.pipeline(transaction=True) as pipe:
            pipe.set(ENTRY + key, pack(entry), px=left_ms)
            for tag in entry.tags:
                pipe.zremrangebyscore(TAG + tag, "-inf", now)
                pipe.zadd(TAG + tag, {ENTRY + key: ends})
                pipe.pexpire(TAG + tag, int(self._ttl_s * 1000))
            await pipe.execute()

    async def forget(self, tag: bytes) -> int:
        """Remove every entry with this tag."""
        async with _answered(self._timeout_s):
            return int(await self._forget(keys=[TAG + tag]))


class Forgettings:
    """What is forgotten anywhere, for every process: also for one that was not running then."""

    def __init__(self, redis: Redis, settings: CacheSettings, clock: Callable[[], float]) -> None:
        self._redis = redis
        self._clock = clock
        self._settings = settings
        self._self_id = new_id().encode()
        self._heard_until = 0.0

    async def tell(self, tag: bytes) -> None:
        """Tell the others, and those who start later. Raises `Unavailable`."""
        now = self._clock()
        keep_s = max(self._settings.disk_ttl_s, self._settings.memory_ttl_s) + SKEW_S
        async with (
            _answered(self._settings.redis_timeout_s),
            self._redis.pipeline(transaction=True) as pipe,
        ):
            pipe.zremrangebyscore(FORGOTTEN, "-inf", now - keep_s)
            pipe.zadd(FORGOTTEN, {tag: now})
            pipe.publish(CHANNEL, self._self_id + tag)
            await pipe.execute()

    async def hear(self) -> AsyncGenerator[bytes, None]:
        """Tags that others forgot, from the oldest not heard yet on, for ever."""
        while True:
            with contextlib.suppress(RedisError, OSError):
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(CHANNEL)
                    since = self._heard_until - SKEW_S
                    now = self._clock()
                    missed: Any = await self._redis.zrangebyscore(FORGOTTEN, since, "+inf")
                    for tag in missed:
                        yield tag
                    self._heard_until = now
                    async with contextlib.aclosing(self._live(pubsub)) as live:
                        async for tag in live:
                            yield tag
            await asyncio.sleep(self._settings.retry_s)

    async def _live(self, pubsub: Any) -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(pubsub.listen()) as messages:
            async for heard in messages:
                told: bytes = heard["data"]
                self._heard_until = self._clock()
                if not told.startswith(self._self_id):
                    yield told[-TAG_BYTES:]


@contextlib.asynccontextmanager
async def _answered(timeout_s: float) -> AsyncIterator[None]:
    """Redis' own faults, and its silence, as `Unavailable`."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis does not answer ({type(error).__name__}).") from error
