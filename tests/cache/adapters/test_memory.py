"""The tier in memory: its bound."""

from mongars.cache import Entry
from mongars.cache.adapters.memory import OVERHEAD_BYTES, MemoryTier

TAG = b"t" * 16


def entry(size: int) -> Entry:
    return Entry(b"v" * (size - OVERHEAD_BYTES), 60, (TAG,))


async def test_the_least_recently_used_make_room() -> None:
    memory = MemoryTier(10_000, lambda: 0)
    for key in (b"1", b"2", b"3", b"4"):
        await memory.put(key, entry(2_500))
    assert await memory.get(b"1") is not None
    await memory.put(b"5", entry(2_500))
    assert [memory.peek(key) is not None for key in (b"1", b"2", b"3")] == [True, False, True]
    assert memory.used_bytes == 10_000
    assert await memory.forget(TAG) == 4
    assert memory.used_bytes == 0


async def test_what_is_too_large_is_not_kept_and_throws_nothing_out() -> None:
    memory = MemoryTier(10_000, lambda: 0)
    await memory.put(b"1", entry(2_000))
    await memory.put(b"2", entry(2_501))
    assert await memory.get(b"1") is not None
    assert await memory.get(b"2") is None
