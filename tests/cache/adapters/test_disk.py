"""The tier on disk: what becomes of its file."""

import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mongars.cache import Entry
from mongars.cache.adapters.disk import FILE, DiskTier
from mongars.errors import Unavailable

NOW = 1_000.0
KEY, TAG = b"k" * 20, b"t" * 16
ENTRY = Entry(b"value" * 1000, NOW + 60, (TAG,))


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[DiskTier]:
    async with DiskTier.open(tmp_path / "cache", 1 << 20, lambda: NOW) as tier:
        yield tier


def keys(count: int) -> list[bytes]:
    return [number.to_bytes(20, "big") for number in range(count)]


async def test_only_its_owner_can_read_the_file(disk: DiskTier, tmp_path: Path) -> None:
    await disk.put(KEY, ENTRY)
    files = list((tmp_path / "cache").iterdir())
    assert FILE in {path.name for path in files}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


@pytest.mark.parametrize("spoil", ["all", "head", "page"])
async def test_a_spoilt_file_is_a_miss_and_made_anew(tmp_path: Path, spoil: str) -> None:
    async with DiskTier.open(tmp_path, 1 << 22, lambda: NOW) as disk:
        for key in keys(100):
            await disk.put(key, ENTRY)
    path = tmp_path / FILE
    content = bytearray(path.read_bytes())
    where = {"all": slice(0, None), "head": slice(0, 100), "page": slice(4096, 16384)}[spoil]
    content[where] = b"\xa5" * len(content[where])
    path.write_bytes(content)
    async with DiskTier.open(tmp_path, 1 << 22, lambda: NOW) as disk:
        assert [await disk.get(key) for key in keys(100)].count(None) > 0
        await disk.put(KEY, ENTRY)
        assert await disk.get(KEY) == ENTRY
        assert await disk.forget(TAG) >= 1


async def test_a_spoilt_value_is_a_miss_and_removed(disk: DiskTier, tmp_path: Path) -> None:
    await disk.put(KEY, ENTRY)
    with sqlite3.connect(tmp_path / "cache" / FILE) as other:
        other.execute("UPDATE entries SET value = ?", (b"another value",))
        other.commit()
        assert await disk.get(KEY) is None
        assert other.execute("SELECT count(*) FROM entries").fetchone() == (0,)
    other.close()


async def test_a_file_of_another_version_is_made_anew(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / FILE)
    other.execute("PRAGMA user_version = 99")
    other.close()
    async with DiskTier.open(tmp_path, 1 << 20, lambda: NOW) as disk:
        assert await disk.get(KEY) is None
        await disk.put(KEY, ENTRY)
        assert await disk.get(KEY) == ENTRY


async def test_a_file_that_was_removed_meanwhile_is_made_anew(
    disk: DiskTier, tmp_path: Path
) -> None:
    await disk.put(KEY, ENTRY)
    for path in (tmp_path / "cache").iterdir():
        path.unlink()
    assert await disk.get(KEY) is None
    await disk.put(KEY, ENTRY)
    assert (tmp_path / "cache" / FILE).exists()


async def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    now = NOW
    async with DiskTier.open(tmp_path, 100_000, lambda: now) as disk:
        for key in keys(200):
            now += 1
            await disk.put(key, Entry(b"v" * 2_000, NOW + 10_000))
        found = [await disk.get(key) is not None for key in keys(200)]
        assert found == sorted(found), "the oldest are gone, the youngest are there"
        assert 38 <= sum(found) <= 43
        await disk.put(KEY, Entry(b"v" * 50_000, NOW + 10_000))
        assert await disk.get(KEY) is None, "too large for this tier"


async def test_a_place_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the place of the folder")
    async with DiskTier.open(tmp_path / "cache", 1 << 20, lambda: NOW) as disk:
        with pytest.raises(Unavailable):
            await disk.put(KEY, ENTRY)
        (tmp_path / "cache").unlink()
        await disk.put(KEY, ENTRY)
        assert await disk.get(KEY) == ENTRY


async def test_a_locked_file_is_a_fault_and_not_spoilt(disk: DiskTier, tmp_path: Path) -> None:
    await disk.put(KEY, ENTRY)
    other = sqlite3.connect(tmp_path / "cache" / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable):
        await disk.put(b"l" * 20, ENTRY)
    other.execute("ROLLBACK")
    other.close()
    assert await disk.get(KEY) == ENTRY
