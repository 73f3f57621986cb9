"""The bus tells this process at once, the others through Redis, and never stands in anybody's way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from redis.asyncio import Redis

from mongars.bus import Bus
from mongars.bus.bus import ROOM
from tests.servers import free_port, redis_server


async def test_a_listener_hears_its_topics_only() -> None:
    bus = Bus(None)
    async with bus.subscribe("a", "b") as news:
        bus.publish("c", b"0")
        bus.publish("a", b"1")
        bus.publish("b", b"2")
        assert [await news.get(0.1), await news.get(0.1), await news.get(0.01)] == [
            b"1",
            b"2",
            None,
        ]


async def test_a_slow_listener_loses_the_oldest_and_is_told() -> None:
    bus = Bus(None)
    async with bus.subscribe("a") as slow:
        for n in range(ROOM + 1):
            bus.publish("a", b"%d" % n)
        assert slow.lagged
        assert await slow.get(0.1) == b"1"


@contextlib.asynccontextmanager
async def replica(url: str) -> AsyncIterator[Bus]:
    async with Redis.from_url(url) as redis, Bus.open(redis) as bus:
        yield bus


async def connected(bus: Bus, state: bool = True) -> None:
    async with asyncio.timeout(15):
        while bus.connected is not state:
            await asyncio.sleep(0.01)


async def test_another_process_hears_through_redis(redis_url: str) -> None:
    async with replica(redis_url) as here, replica(redis_url) as there:
        await asyncio.gather(connected(here), connected(there))
        async with there.subscribe("turn:1") as news, here.subscribe("turn:1") as own:
            here.publish("turn:1", b"a b \xff")
            assert await news.get(5) == b"a b \xff"
            assert await own.get(5) == b"a b \xff"
            assert await own.get(0.05) is None  # not once more by the way of Redis


async def test_redis_may_go_and_come_back(tmp_path: Path) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    async with replica(url) as here, replica(url) as there:
        with redis_server(tmp_path, port):
            await asyncio.gather(connected(here), connected(there))
        await connected(there, state=False)
        async with here.subscribe("a") as own:
            here.publish("a", b"alone")
            assert await own.get(1) == b"alone"
        with redis_server(tmp_path, port):
            await asyncio.gather(connected(here), connected(there))
            async with there.subscribe("a") as news:
                here.publish("a", b"again")
                assert await news.get(5) == b"again"
