"""Who may do what: people, their sessions and keys, and the ways to prove who one is."""

from mongars.auth.auth import Auth
from mongars.auth.caller import ALL_SCOPES, Caller, Role, Scope
from mongars.auth.passkeys import origins_of as passkey_origins
from mongars.auth.person import (
    Account,
    ApiKeyRecord,
    InvitationRecord,
    PasskeyRecord,
    PersonRecord,
    SessionRecord,
    Source,
    Tokens,
)
from mongars.auth.settings import AuthSettings

__all__ = [
    "ALL_SCOPES",
    "Account",
    "ApiKeyRecord",
    "Auth",
    "AuthSettings",
    "Caller",
    "InvitationRecord",
    "PasskeyRecord",
    "PersonRecord",
    "Role",
    "Scope",
    "SessionRecord",
    "Source",
    "Tokens",
    "passkey_origins",
]
