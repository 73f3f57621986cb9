"""Every kind of error, in the caller's terms, and what each one means at the borders.

    Fault
    ├── Invalid        what was sent is wrong               422  exit 2
    │   ├── Malformed  it cannot be read at all             400  exit 2
    │   ├── TooLarge   it is more than is taken             413  exit 2
    │   └── NoMethod   the address takes other methods      405  exit 2
    ├── Unproven       who is asking is not proved          401  exit 1
    ├── Forbidden      known, and still not allowed         403  exit 1
    ├── Missing        not there, or not yours              404  exit 1
    ├── Conflict       not in the state this needs          409  exit 1
    ├── Busy           too much at once, later yes          429  exit 1
    ├── Unavailable    a part that is needed is away        503  exit 1
    ├── NotConfigured  a setting is missing or wrong        503  exit 3
    └── NotBuilt       this part does not exist yet         501  exit 3

`MEANING` is the one place where HTTP status, exit code and log level come from.
Foreign errors are translated into one of these once, in the adapter that meets them
(`raise Unavailable(...) from error`). A fault's `detail` is shown to people: it says what
happened and what to do next, and never carries a secret or somebody's text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal

URN: Final = "urn:mongars:problem:"
"""What stands before a problem's slug in the `type` of a problem document."""


@dataclass(frozen=True)
class FieldFault:
    """One wrong field: where (`loc`, as in `("body", "message")`) and what is wrong with it."""

    loc: tuple[str | int, ...]
    msg: str


class Fault(Exception):
    """A failure somebody can understand and act on.

    `slug` is the stable name of the problem (`urn:mongars:problem:<slug>`); `title` a short
    sentence for it; `extra` members go into the problem document as they are.
    """

    slug: ClassVar[str] = "fault"
    title: ClassVar[str] = "Something went wrong"

    def __init__(
        self,
        detail: str,
        *,
        slug: str | None = None,
        errors: Sequence[FieldFault] = (),
        retry_after_s: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.problem = slug or type(self).slug
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s
        self.extra: Mapping[str, Any] = MappingProxyType(dict(extra or {}))


class Invalid(Fault):
    """What was sent has the wrong shape or value."""

    slug, title = "invalid", "This request is not valid"


class Malformed(Invalid):
    """What was sent cannot be read at all."""

    slug, title = "malformed-json", "This is not readable"


class TooLarge(Invalid):
    """More was sent than is taken."""

    slug, title = "too-large", "This is too large"


class NoMethod(Invalid):
    """The address exists, and does not take this method."""

    slug, title = "method-not-allowed", "This method is not taken here"


class Unproven(Fault):
    """Who is asking is not proved: no token, a wrong one, or one that has ended."""

    slug, title = "unproven", "Please sign in"


class Forbidden(Fault):
    """Known, and still not allowed."""

    slug, title = "forbidden", "This is not allowed"


class Missing(Fault):
    """Not there, or not yours: both look the same."""

    slug, title = "missing", "Nothing is here"


class Conflict(Fault):
    """Not in the state that this needs."""

    slug, title = "conflict", "This conflicts with what is there"


class Busy(Fault):
    """Too much at once; later it works."""

    slug, title = "busy", "Too many requests"


class Unavailable(Fault):
    """A part that is needed is away."""

    slug, title = "unavailable", "A part of monGARS is not available"


class NotConfigured(Fault):
    """A setting is missing or wrong."""

    slug, title = "not-configured", "A setting is missing or wrong"


class NotBuilt(Fault):
    """This part is not built yet."""

    slug, title = "not-built", "This part is not built yet"


@dataclass(frozen=True)
class Meaning:
    """What a kind of fault means outside: HTTP status, exit code, level of its log line."""

    status: int
    exit_code: int
    level: Literal["debug", "info", "warning", "error"]


MEANING: Mapping[type[Fault], Meaning] = MappingProxyType(
    {
        Malformed: Meaning(400, 2, "info"),
        TooLarge: Meaning(413, 2, "info"),
        NoMethod: Meaning(405, 2, "info"),
        Invalid: Meaning(422, 2, "info"),
        Unproven: Meaning(401, 1, "info"),
        Forbidden: Meaning(403, 1, "info"),
        Missing: Meaning(404, 1, "info"),
        Conflict: Meaning(409, 1, "info"),
        Busy: Meaning(429, 1, "info"),
        Unavailable: Meaning(503, 1, "warning"),
        NotConfigured: Meaning(503, 3, "error"),
        NotBuilt: Meaning(501, 3, "info"),
        Fault: Meaning(500, 1, "error"),
    }
)


def meaning(fault: Fault) -> Meaning:
    """The meaning of the nearest kind that `MEANING` knows."""
    for kind in type(fault).__mro__:
        if kind in MEANING:
            return MEANING[kind]
    return MEANING[Fault]
