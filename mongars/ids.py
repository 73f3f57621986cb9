"""Ids and times, made in one place.

An id is an opaque string to everybody else; inside it is a UUIDv7 (RFC 9562), so that rows made
later sort later.
"""

from datetime import UTC, datetime

import uuid_utils


def new_id() -> str:
    """A fresh UUIDv7 in its usual form."""
    return str(uuid_utils.uuid7())


def now() -> datetime:
    """This moment, with its time zone (UTC)."""
    return datetime.now(UTC)


def rfc3339(at: datetime) -> str:
    """A time as RFC 3339 in UTC with milliseconds, as in `2026-01-31T12:00:00.000Z`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
