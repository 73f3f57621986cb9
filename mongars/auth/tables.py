"""The tables of people, and of what proves who they are."""

import sqlalchemy as sa

from mongars.database import Json, UtcTime, metadata


def _owner(*, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(
        "owner_id",
        sa.String(36),
        sa.ForeignKey("users.id", ondelete="CASCADE"),
        nullable=False,
        primary_key=primary_key,
        index=not primary_key,
    )


users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("username", sa.String(64), nullable=False),
    sa.Column("folded", sa.String(200), nullable=False, unique=True),
    sa.Column("password_hash", sa.Text),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("language", sa.String(8)),
    sa.Column("created_at", UtcTime, nullable=False),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    _owner(),
    sa.Column("way", sa.String(16), nullable=False),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("last_seen_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False, index=True),
)

refresh_tokens = sa.Table(
    "refresh_tokens",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    _owner(),
    sa.Column(
        "session_id",
        sa.String(36),
        sa.ForeignKey("sessions.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("used_at", UtcTime),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    _owner(),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("prefix", sa.String(16), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("scopes", Json, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("last_used_at", UtcTime),
)

tickets = sa.Table(
    "tickets",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    _owner(),
    sa.Column("session_id", sa.String(36)),
    sa.Column("key_id", sa.String(36)),
    sa.Column("expires_at", UtcTime, nullable=False, index=True),
)

one_time_codes = sa.Table(
    "one_time_codes",
    metadata,
    _owner(primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("last_step", sa.BigInteger, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("confirmed_at", UtcTime),
)

recovery_codes = sa.Table(
    "recovery_codes",
    metadata,
    _owner(primary_key=True),
    sa.Column("digest", sa.String(64), primary_key=True),
)

passkeys = sa.Table(
    "passkeys",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    _owner(),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("rp_id", sa.Text, nullable=False),
    sa.Column("credential_id", sa.Text, nullable=False, unique=True),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    sa.Column("sign_count", sa.BigInteger, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("last_used_at", UtcTime),
)

identities = sa.Table(
    "identities",
    metadata,
    sa.Column("issuer", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    _owner(),
    sa.Column("created_at", UtcTime, nullable=False),
)

challenges = sa.Table(
    "challenges",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("purpose", sa.String(32), nullable=False),
    sa.Column("owner_id", sa.String(36), index=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False, index=True),
)

invitations = sa.Table(
    "invitations",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("note", sa.Text),
    sa.Column("created_by", sa.String(36), nullable=False, index=True),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Column("used_at", UtcTime),
    sa.Column("used_by", sa.String(36), index=True),
)

setup_codes = sa.Table(
    "setup_codes",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("created_at", UtcTime, nullable=False),
)

signing_keys = sa.Table(
    "signing_keys",
    metadata,
    sa.Column("kid", sa.String(36), primary_key=True),
    sa.Column("purpose", sa.String(16), nullable=False),
    sa.Column("algorithm", sa.String(16), nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("locked", sa.Boolean, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("retired_at", UtcTime),
    sa.Index(
        "uq_signing_keys_active",
        "purpose",
        "algorithm",
        unique=True,
        sqlite_where=sa.text("retired_at IS NULL"),
        postgresql_where=sa.text("retired_at IS NULL"),
    ),
)

throttles = sa.Table(
    "throttles",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("last_at", UtcTime, nullable=False, index=True),
)
