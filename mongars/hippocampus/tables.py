"""The tables of what was said."""

import sqlalchemy as sa

from mongars.database import Json, UtcTime, metadata

conversations = sa.Table(
    "conversations",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("owner_id", sa.String(36), nullable=False),
    sa.Column("title", sa.Text),
    sa.Column("title_by", sa.String(8)),
    sa.Column("title_folded", sa.Text, nullable=False),
    sa.Column("model", sa.Text),
    sa.Column("system_prompt", sa.Text),
    sa.Column("temperature", sa.Float),
    sa.Column("tags", Json, nullable=False),
    sa.Column("pinned", sa.Boolean, nullable=False),
    sa.Column("archived", sa.Boolean, nullable=False),
    sa.Column("temporary", sa.Boolean, nullable=False),
    sa.Column("active_leaf_id", sa.String(36)),
    sa.Column("import_key", sa.String(80)),
    sa.Column("external_id", sa.Text),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("updated_at", UtcTime, nullable=False),
    sa.Column("deleted_at", UtcTime),
    sa.Index("ix_conversations_listing", "owner_id", "pinned", "updated_at", "id"),
    sa.Index("ix_conversations_deleted_at", "deleted_at"),
    sa.UniqueConstraint("owner_id", "import_key", name="uq_conversations_import_key"),
)

messages = sa.Table(
    "messages",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("owner_id", sa.String(36), nullable=False),
    sa.Column("conversation_id", sa.String(36), nullable=False),
    sa.Column("parent_id", sa.String(36)),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("folded", sa.Text, nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("model", sa.Text),
    sa.Column("speaker", sa.Text),
    sa.Column("external_id", sa.Text),
    sa.Column("details", Json),
    sa.ForeignKeyConstraint(
        ["conversation_id"],
        ["conversations.id"],
        name="fk_messages_conversation",
        ondelete="CASCADE",
    ),
    # A parent is of the same conversation: the database itself refuses any other.
    sa.ForeignKeyConstraint(
        ["conversation_id", "parent_id"],
        ["messages.conversation_id", "messages.id"],
        name="fk_messages_parent",
    ),
    sa.UniqueConstraint("conversation_id", "id", name="uq_messages_conversation"),
    sa.Index("ix_messages_parent", "conversation_id", "parent_id"),
    sa.Index("ix_messages_history", "owner_id", "at", "id"),
    sa.Index("ix_messages_conversation_history", "conversation_id", "at", "id"),
)

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("message_id", sa.String(36), primary_key=True),
    sa.Column("owner_id", sa.String(36), nullable=False, index=True),
    sa.Column("value", sa.Integer, nullable=False),
    sa.Column("text", sa.Text),
    sa.Column("at", UtcTime, nullable=False),
    sa.ForeignKeyConstraint(
        ["message_id"], ["messages.id"], name="fk_feedback_message", ondelete="CASCADE"
    ),
)

presets = sa.Table(
    "presets",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("owner_id", sa.String(36), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("model", sa.Text),
    sa.Column("system_prompt", sa.Text),
    sa.Column("temperature", sa.Float),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.UniqueConstraint("owner_id", "name", name="uq_presets_name"),
)

files = sa.Table(
    "files",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("owner_id", sa.String(36), nullable=False, index=True),
    sa.Column("purpose", sa.String(16), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("complete", sa.Boolean, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False, index=True),
)

file_parts = sa.Table(
    "file_parts",
    metadata,
    sa.Column("file_id", sa.String(36), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("owner_id", sa.String(36), nullable=False, index=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sa.ForeignKeyConstraint(
        ["file_id"], ["files.id"], name="fk_file_parts_file", ondelete="CASCADE"
    ),
)
