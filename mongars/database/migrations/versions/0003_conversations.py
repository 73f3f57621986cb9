"""Conversations, the tree of their messages, presets, and files on their way in or out."""

import sqlalchemy as sa
from alembic import op

from mongars.database import Json, UtcTime
from mongars.database.rls import protect

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = ("conversations", "messages", "feedback", "presets", "files", "file_parts")


def upgrade() -> None:
    op.create_table(
        "conversations",
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
        sa.UniqueConstraint("owner_id", "import_key", name="uq_conversations_import_key"),
    )
    op.create_index(
        "ix_conversations_listing", "conversations", ["owner_id", "pinned", "updated_at", "id"]
    )
    op.create_index("ix_conversations_deleted_at", "conversations", ["deleted_at"])
    op.create_table(
        "messages",
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
        sa.ForeignKeyConstraint(
            ["conversation_id", "parent_id"],
            ["messages.conversation_id", "messages.id"],
            name="fk_messages_parent",
        ),
        sa.UniqueConstraint("conversation_id", "id", name="uq_messages_conversation"),
    )
    op.create_index("ix_messages_parent", "messages", ["conversation_id", "parent_id"])
    op.create_index("ix_messages_history", "messages", ["owner_id", "at", "id"])
    op.create_index("ix_messages_conversation_history", "messages", ["conversation_id", "at", "id"])
    op.create_table(
        "feedback",
        sa.Column("message_id", sa.String(36), primary_key=True),
        sa.Column("owner_id", sa.String(36), nullable=False, index=True),
        sa.Column("value", sa.Integer, nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("at", UtcTime, nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name="fk_feedback_message", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "presets",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("owner_id", sa.String(36), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("system_prompt", sa.Text),
        sa.Column("temperature", sa.Float),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.UniqueConstraint("owner_id", "name", name="uq_presets_name"),
    )
    op.create_table(
        "files",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("owner_id", sa.String(36), nullable=False, index=True),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("complete", sa.Boolean, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False, index=True),
    )
    op.create_table(
        "file_parts",
        sa.Column("file_id", sa.String(36), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("owner_id", sa.String(36), nullable=False, index=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(
            ["file_id"], ["files.id"], name="fk_file_parts_file", ondelete="CASCADE"
        ),
    )
    for table in TABLES:
        protect(table)


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)
