"""Cursors: where a list goes on, as opaque text."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import orjson

from mongars.errors import FieldFault, Invalid

Item = TypeVar("Item")


@dataclass(frozen=True)
class Part(Generic[Item]):
    """A part of a list, and what to ask for the next one with; `None` at the end."""

    items: Sequence[Item]
    next: str | None


@dataclass(frozen=True)
class Place:
    """A place in a list of conversations: behind the one with these values."""

    pinned: bool
    updated_at: datetime
    id: str

    def cursor(self) -> str:
        """As opaque text."""
        values = [self.pinned, self.updated_at.isoformat(), self.id]
        return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")

    @classmethod
    def of(cls, cursor: str | None) -> "Place | None":
        """Back from text. Raises `Invalid` for one that this list never gave."""
        if cursor is None:
            return None
        try:
            padded = cursor + "=" * (-len(cursor) % 4)
            values = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            return cls._of_values(values)
        except (binascii.Error, ValueError, TypeError) as error:
            wrong = FieldFault(("query", "cursor"), "is not one that this list gave")
            raise Invalid("Some fields are not as they must be.", errors=[wrong]) from error

    @classmethod
    def _of_values(cls, values: Any) -> "Place":
        pinned, updated_at, id_ = values
        at = datetime.fromisoformat(updated_at)
        plain = isinstance(pinned, bool) and isinstance(id_, str) and id_.isascii()
        if not plain or at.tzinfo is None or "\x00" in id_:
            raise ValueError("not a place")
        return cls(pinned, at, id_)
