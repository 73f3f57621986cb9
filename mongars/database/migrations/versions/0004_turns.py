"""Turns and their events."""

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Filled by the organ's tables."""


def downgrade() -> None:
    """Undoes upgrade."""
