"""People: accounts, sessions, keys."""

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Filled by the organ's tables."""


def downgrade() -> None:
    """Undoes upgrade."""
