"""What this organ tells about people and what they sign in with. Secrets never show in `repr`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mongars.auth.caller import Role, Scope


@dataclass(frozen=True)
class PersonRecord:
    """An account."""

    id: str
    username: str
    role: Role
    disabled: bool
    created_at: datetime


@dataclass(frozen=True)
class Account:
    """An account as its own person sees it."""

    id: str
    username: str
    role: Role
    language: str | None
    created_at: datetime
    has_password: bool
    has_otp: bool


@dataclass(frozen=True)
class Source:
    """Where a try to sign in comes from: an address, a device's name, and the proof of a device
    that has signed in before."""

    address: str
    device: str = ""
    device_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Tokens:
    """What signing in ends in. `expires_in` is the access token's life in seconds."""

    session_id: str
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int
    device_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class SessionRecord:
    """A device that is signed in. `last_seen_at` is as coarse as access tokens live."""

    id: str
    way: str
    device: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class ApiKeyRecord:
    """A key for programs; `prefix` is what may be shown of it."""

    id: str
    name: str
    prefix: str
    scopes: Sequence[Scope]
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True)
class PasskeyRecord:
    """A passkey, and the name of the host it was made for."""

    id: str
    name: str
    rp_id: str
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True)
class InvitationRecord:
    """An invitation that was given out."""

    id: str
    role: Role
    note: str | None
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    used_by: str | None


@dataclass(frozen=True)
class Shown:
    """A secret that is shown once, and the id of what it opens."""

    id: str
    secret: str = field(repr=False)
