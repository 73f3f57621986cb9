"""Turns and their events, idempotency keys, and when each person's messages came."""

import sqlalchemy as sa
from alembic import op

from mongars.database import Json, UtcTime
from mongars.database.rls import protect

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = ("turns", "turn_events", "idempotency_keys", "admissions")
ACTIVE = sa.text("state IN ('queued', 'running')")


def upgrade() -> None:
    op.create_table(
        "turns",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("owner_id", sa.String(36), nullable=False),
        sa.Column("conversation_id", sa.String(36), nullable=False),
        sa.Column("message_id", sa.String(36), nullable=False),
        sa.Column("answer_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("options", Json, nullable=False),
        sa.Column("client_id", sa.String(64)),
        sa.Column("error", Json),
        sa.Column("stop_asked", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("started_at", UtcTime),
        sa.Column("ended_at", UtcTime),
        sa.Column("leased_by", sa.String(200)),
        sa.Column("leased_until", UtcTime),
        sa.Column("model", sa.Text),
        sa.Column("details", Json),
        sa.Column("last_seq", sa.Integer, nullable=False),
        sa.Column("compacted", sa.Boolean, nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_turns_conversation",
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "uq_turns_running",
        "turns",
        ["conversation_id"],
        unique=True,
        sqlite_where=ACTIVE,
        postgresql_where=ACTIVE,
    )
    op.create_index(
        "ix_turns_active", "turns", ["owner_id"], sqlite_where=ACTIVE, postgresql_where=ACTIVE
    )
    op.create_index("ix_turns_conversation", "turns", ["conversation_id", "id"])
    op.create_index("ix_turns_ended_at", "turns", ["ended_at"])
    op.create_table(
        "turn_events",
        sa.Column("turn_id", sa.String(36), primary_key=True),
        sa.Column("first_seq", sa.Integer, primary_key=True),
        sa.Column("last_seq", sa.Integer, nullable=False),
        sa.Column("owner_id", sa.String(36), nullable=False),
        sa.Column("events", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["turns.id"], name="fk_turn_events_turn", ondelete="CASCADE"
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("owner_id", sa.String(36), primary_key=True),
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("body_hash", sa.String(64), nullable=False),
        sa.Column("turn_id", sa.String(36), nullable=False, index=True),
        sa.Column("at", UtcTime, nullable=False, index=True),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["turns.id"], name="fk_idempotency_keys_turn", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "admissions",
        sa.Column("owner_id", sa.String(36), primary_key=True),
        sa.Column("at", UtcTime, primary_key=True),
        sa.Column("id", sa.String(36), primary_key=True),
    )
    for table in TABLES:
        protect(table)


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)
