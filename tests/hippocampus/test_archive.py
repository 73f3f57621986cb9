"""Reading a large file one conversation at a time."""

import io
import json
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mongars.errors import Invalid, TooLarge
from mongars.hippocampus import archive
from mongars.hippocampus.archive import Archive

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


class Dripping(io.BytesIO):
    """A file that gives one to three bytes at a time, cutting characters and numbers."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 1 + self.tell() % 3) if size and size > 0 else size)


def read(content: bytes, *, unpacked: int = 10**9, entry: int = 10**6) -> list[object]:
    return list(Archive(io.BytesIO(content), unpacked=unpacked, entry=entry))


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return out.getvalue()


@given(st.lists(JSON, max_size=5), st.booleans(), st.sampled_from([None, 1]))
@settings(max_examples=60, deadline=None)
def test_every_conversation_is_read_however_the_file_is_cut(
    entries: list[object], ascii_only: bool, indent: int | None
) -> None:
    for whole in (entries, {"format": "mongars", "conversations": entries, "more": [1]}):
        content = json.dumps(whole, ensure_ascii=ascii_only, indent=indent).encode()
        dripping = Dripping(content)
        assert list(Archive(dripping, unpacked=1, entry=10**6)) == entries


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert read(b"\xef\xbb\xbf [1, 2]") == [1, 2]


def test_what_stands_beside_the_conversations_is_kept_aside() -> None:
    opened = Archive(io.BytesIO(b'{"conversations": [], "presets": [1]}'), unpacked=1, entry=100)
    assert list(opened) == []
    assert opened.others == {"presets": [1]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        b"12",
        b"{}",
        b'{"conversations": 3}',
        b"[1, 2",
        b"[1 2]",
        b'["\xff"]',
        b"[" * 100_000,
        b"PK\x03\x04nothing",
    ],
)
def test_what_is_no_list_of_conversations_is_said_so(content: bytes) -> None:
    with pytest.raises(Invalid):
        read(content)


def test_what_can_be_read_comes_before_what_cannot() -> None:
    entries = iter(Archive(io.BytesIO(b"[1, 2, oops]"), unpacked=1, entry=100))
    assert [next(entries), next(entries)] == [1, 2]
    with pytest.raises(Invalid):
        next(entries)


def test_a_conversation_that_is_too_large_ends_the_reading() -> None:
    with pytest.raises(TooLarge):
        read(b'["' + b"x" * 1_000_000 + b'"]', entry=100_000)


def test_json_files_are_read_out_of_a_zip_file_and_others_left() -> None:
    content = zipped(
        {
            "a.json": b"[1]",
            "below/b.JSON": b'{"conversations": [2, 3]}',
            "__MACOSX/a.json": b"\x00",
            "below/._b.json": b"\x00",
            "picture.png": b"\x00",
        }
    )
    assert read(content) == [1, 2, 3]
    with pytest.raises(Invalid, match=r"\.json"):
        read(zipped({"picture.png": b"x"}))


def test_a_zip_file_does_not_unpack_to_more_than_it_may() -> None:
    with pytest.raises(TooLarge):
        read(zipped({"a.json": b"[" + b"1," * 1000 + b"1]"}), unpacked=1000)
    with pytest.raises(TooLarge, match="far more"):
        read(zipped({"a.json": b" " * 20_000_000 + b"[]"}))


def test_a_zip_file_with_too_many_members_is_refused_before_they_are_listed() -> None:
    content = bytearray(zipped({"a.json": b"[]"}))
    end = content.rfind(b"PK\x05\x06")
    content[end + 12 : end + 16] = (archive.DIRECTORY_BYTES + 1).to_bytes(4, "little")
    with pytest.raises(TooLarge, match="too many"):
        read(bytes(content))


def test_a_damaged_zip_file_is_said_to_be_damaged() -> None:
    content = bytearray(zipped({"a.json": b"[" + b"12345," * 500 + b"1]"}))
    content[45] ^= 0xFF
    with pytest.raises(Invalid):
        read(bytes(content))


def test_progress_is_told_in_bytes() -> None:
    opened = Archive(io.BytesIO(b"[1, 2]"), unpacked=1, entry=100)
    list(opened)
    assert (opened.done, opened.total) == (6, 6)
