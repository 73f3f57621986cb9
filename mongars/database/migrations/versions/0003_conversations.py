"""Conversations and the tree of their messages."""

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Filled by the organ's tables."""


def downgrade() -> None:
    """Undoes upgrade."""
