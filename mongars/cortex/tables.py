"""The tables of turns."""

import sqlalchemy as sa

from mongars.database import Json, UtcTime, metadata

ACTIVE = sa.text("state IN ('queued', 'running')")

turns = sa.Table(
    "turns",
    metadata,
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
        ["conversation_id"], ["conversations.id"], name="fk_turns_conversation", ondelete="CASCADE"
    ),
    # One answer at a time is made in a conversation: the database itself refuses a second.
    sa.Index(
        "uq_turns_running",
        "conversation_id",
        unique=True,
        sqlite_where=ACTIVE,
        postgresql_where=ACTIVE,
    ),
    sa.Index("ix_turns_active", "owner_id", sqlite_where=ACTIVE, postgresql_where=ACTIVE),
    sa.Index("ix_turns_conversation", "conversation_id", "id"),
    sa.Index("ix_turns_ended_at", "ended_at"),
)

turn_events = sa.Table(
    "turn_events",
    metadata,
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

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("owner_id", sa.String(36), primary_key=True),
    sa.Column("key", sa.String(200), primary_key=True),
    sa.Column("body_hash", sa.String(64), nullable=False),
    sa.Column("turn_id", sa.String(36), nullable=False, index=True),
    sa.Column("at", UtcTime, nullable=False, index=True),
    sa.ForeignKeyConstraint(
        ["turn_id"], ["turns.id"], name="fk_idempotency_keys_turn", ondelete="CASCADE"
    ),
)

admissions = sa.Table(
    "admissions",
    metadata,
    sa.Column("owner_id", sa.String(36), primary_key=True),
    sa.Column("at", UtcTime, primary_key=True),
    sa.Column("id", sa.String(36), primary_key=True),
)
