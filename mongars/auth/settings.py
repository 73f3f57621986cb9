"""Settings of the accounts."""

from typing import Literal

from pydantic import Field, SecretStr

from mongars.organ import OrganSettings

Algorithm = Literal["HS256", "RS256"]


class AuthSettings(OrganSettings):
    """Who may come in, and how they prove who they are."""

    open_registration: bool = False
    """Whether anybody may make an account; otherwise it takes an invitation or an admin."""

    algorithm: Algorithm = "HS256"
    """How access tokens are signed: `HS256` (a secret made at first start) or `RS256` (a key pair,
    published at `/.well-known/jwks.json`). Tokens signed before a change stay good until they end."""

    access_minutes: int = Field(10, ge=1, le=60)
    """How long an access token lasts, in minutes."""

    refresh_days: int = Field(30, ge=1, le=365)
    """How long a session lasts without being used, in days."""

    secret_key: SecretStr | None = None
    """Locks the signing keys that are kept in the database, so that a copy of the database alone
    opens nothing; every replica needs the same one. Left out: they lie there unlocked."""

    hash_memory_kib: int = Field(19_456, ge=19_456, le=1_048_576)
    """Memory that hashing one password takes, in KiB (Argon2id; OWASP's least is 19456)."""

    hash_passes: int = Field(2, ge=2, le=20)
    """How often hashing a password goes over that memory."""

    tries: int = Field(5, ge=1)
    """Wrong passwords for one name from one source before it has to wait."""

    tries_per_source: int = Field(30, ge=1)
    """Wrong passwords from one source, for whatever names, before it has to wait."""

    tries_per_name: int = Field(50, ge=1)
    """Wrong passwords for one name from everywhere within an hour; above it a source gets one try."""

    oidc_issuer: str | None = None
    """Address of an OpenID Connect provider people may sign in with, as in `https://id.example.org`."""

    oidc_client_id: str | None = None
    """The name this monGARS has at that provider."""

    oidc_client_secret: SecretStr | None = None
    """The secret this monGARS has at that provider."""

    oidc_create: bool = False
    """Whether who comes from that provider for the first time gets an account here."""
