"""People: accounts, sessions, keys."""

import sqlalchemy as sa
from alembic import op

from mongars.database import Json, UtcTime
from mongars.database.rls import protect, system_only

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OWNED = (
    "sessions",
    "refresh_tokens",
    "api_keys",
    "tickets",
    "one_time_codes",
    "recovery_codes",
    "passkeys",
    "identities",
)
SYSTEM = ("challenges", "invitations", "setup_codes", "signing_keys", "throttles")


def _owner(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["owner_id"], ["users.id"], name=f"fk_{table}_owner_id_users", ondelete="CASCADE"
    )


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("username", sa.String(64), nullable=False),
        sa.Column("folded", sa.String(200), nullable=False),
        sa.Column("password_hash", sa.Text),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("language", sa.String(8)),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.UniqueConstraint("folded", name="uq_users_folded"),
    )
    _sessions()
    _keys()
    _factors()
    _system()
    protect("users", "id")
    for table in OWNED:
        protect(table)
    for table in SYSTEM:
        system_only(table)


def _sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("owner_id", sa.String(36), nullable=False, index=True),
        sa.Column("way", sa.String(16), nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("last_seen_at", UtcTime, nullable=False),
        sa.Column("expires_at", UtcTime, nullable=False, index=True),
        _owner("sessions"),
    )
    op.create_table(
        "refresh_tokens",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("owner_id", sa.String(36), nullable=False, index=True),
        sa.Column("session_id", sa.String(36), nullable=False, index=True),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("used_at", UtcTime),
        _owner("refresh_tokens"),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.id"],
            name="fk_refresh_tokens_session_id_sessions",
            ondelete="CASCADE",
        ),
    )


def _keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("owner_id", sa.String(36), nullable=False, index=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("scopes", Json, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("last_used_at", UtcTime),
        _owner("api_keys"),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
    )
    op.create_table(
        "tickets",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("owner_id", sa.String(36), nullable=False, index=True),
        sa.Column("session_id", sa.String(36)),
        sa.Column("key_id", sa.String(36)),
        sa.Column("expires_at", UtcTime, nullable=False, index=True),
        _owner("tickets"),
    )


def _factors() -> None:
    op.create_table(
        "one_time_codes",
        sa.Column("owner_id", sa.String(36), primary_key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("last_step", sa.BigInteger, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("confirmed_at", UtcTime),
        _owner("one_time_codes"),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("owner_id", sa.String(36), primary_key=True),
        sa.Column("digest", sa.String(64), primary_key=True),
        _owner("recovery_codes"),
    )
    op.create_table(
        "passkeys",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("owner_id", sa.String(36), nullable=False, index=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("rp_id", sa.Text, nullable=False),
        sa.Column("credential_id", sa.Text, nullable=False),
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        sa.Column("sign_count", sa.BigInteger, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("last_used_at", UtcTime),
        _owner("passkeys"),
        sa.UniqueConstraint("credential_id", name="uq_passkeys_credential_id"),
    )
    op.create_table(
        "identities",
        sa.Column("issuer", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("owner_id", sa.String(36), nullable=False, index=True),
        sa.Column("created_at", UtcTime, nullable=False),
        _owner("identities"),
    )


def _system() -> None:
    op.create_table(
        "challenges",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("owner_id", sa.String(36), index=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("expires_at", UtcTime, nullable=False, index=True),
    )
    op.create_table(
        "invitations",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("created_by", sa.String(36), nullable=False, index=True),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("expires_at", UtcTime, nullable=False),
        sa.Column("used_at", UtcTime),
        sa.Column("used_by", sa.String(36), index=True),
        sa.UniqueConstraint("digest", name="uq_invitations_digest"),
    )
    op.create_table(
        "setup_codes",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("created_at", UtcTime, nullable=False),
    )
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.String(36), primary_key=True),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("algorithm", sa.String(16), nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("locked", sa.Boolean, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("retired_at", UtcTime),
    )
    op.create_index(
        "uq_signing_keys_active",
        "signing_keys",
        ["purpose", "algorithm"],
        unique=True,
        sqlite_where=sa.text("retired_at IS NULL"),
        postgresql_where=sa.text("retired_at IS NULL"),
    )
    op.create_table(
        "throttles",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("last_at", UtcTime, nullable=False, index=True),
    )


def downgrade() -> None:
    for table in (*SYSTEM, *reversed(OWNED), "users"):
        op.drop_table(table)
