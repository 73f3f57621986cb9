"""What a tier holds: a value with its end and its tags, under a key that tells nothing."""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

KEY_BYTES = 20
TAG_BYTES = 16
CHECK_BYTES = 16

_MAGIC = b"mgc1"
_HEAD = struct.Struct("<4s16sdB")


@dataclass(frozen=True, slots=True)
class Entry:
    """A value, the time it ends at (seconds since 1970) and the hashed tags that reach it."""

    value: bytes
    expires_at: float
    tags: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Forgotten:
    """What came of forgetting: entries removed, and the tiers that could not be reached.

    A tier in `away` is cleaned as soon as it answers again, before anything else is asked of it;
    whoever must prove the forgetting asks again until `away` is empty.
    """

    entries: int
    away: tuple[str, ...] = ()


def key_of(namespace: str, key: str, owner_id: str | None) -> bytes:
    """The hashed key: another owner, another key."""
    return _hashed(KEY_BYTES, namespace, "" if owner_id is None else f"owner:{owner_id}", key)


def owner_tag(owner_id: str) -> bytes:
    """The tag that every entry of an owner carries."""
    return _hashed(TAG_BYTES, "owner", owner_id)


def tag_of(tag: str) -> bytes:
    """A tag in its hashed form; never equal to an owner's."""
    return _hashed(TAG_BYTES, "tag", tag)


def tags_of(owner_id: str | None, tags: Iterable[str]) -> tuple[bytes, ...]:
    """All the tags of an entry, the owner's among them."""
    found = {tag_of(tag) for tag in tags}
    if owner_id is not None:
        found.add(owner_tag(owner_id))
    return tuple(sorted(found))


def checksum(value: bytes) -> bytes:
    """What tells a spoilt value from a whole one."""
    return hashlib.blake2b(value, digest_size=CHECK_BYTES).digest()


def pack(entry: Entry) -> bytes:
    """One string of bytes: magic, checksum, end, number of tags, tags, value."""
    body = b"".join(entry.tags) + entry.value
    head = _HEAD.pack(_MAGIC, checksum(body), entry.expires_at, len(entry.tags))
    return head + body


def unpack(packed: bytes) -> Entry | None:
    """The entry; `None` when these bytes are not one, or are spoilt."""
    if len(packed) < _HEAD.size:
        return None
    magic, check, expires_at, count = _HEAD.unpack_from(packed)
    body = packed[_HEAD.size :]
    if magic != _MAGIC or len(body) < count * TAG_BYTES or check != checksum(body):
        return None
    tags = tuple(body[at * TAG_BYTES : (at + 1) * TAG_BYTES] for at in range(count))
    return Entry(body[count * TAG_BYTES :], expires_at, tags)


def _hashed(size: int, *parts: str) -> bytes:
    """Every part with its length in front, so that no two lists of parts look alike."""
    made = hashlib.blake2b(digest_size=size)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        made.update(len(encoded).to_bytes(8, "little"))
        made.update(encoded)
    return made.digest()
