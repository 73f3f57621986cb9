"""Who is asking."""

from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

Role = Literal["user", "admin"]
Scope = Literal["chat", "read", "memory", "metrics", "admin"]

ALL_SCOPES: Set[Scope] = frozenset({"chat", "read", "memory", "metrics", "admin"})


@dataclass(frozen=True)
class Caller:
    """A person who proved who they are, by a session's access token or by an API key.

    `scopes` is what this proof may be used for; a session may be used for everything its person
    may do, `admin` and `metrics` only where the role is `admin`.
    """

    id: str
    username: str
    role: Role
    scopes: Set[Scope]
    session_id: str | None = None
    key_id: str | None = None
