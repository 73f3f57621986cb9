"""Roles for row level security, and jobs."""

import sqlalchemy as sa
from alembic import op

from mongars.database import Json, UtcTime
from mongars.database.rls import create_roles, protect

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_roles()
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("owner_id", sa.String(36), nullable=False, index=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("payload", Json, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("unique_key", sa.String(200)),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("done", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger),
        sa.Column("unit", sa.String(32), nullable=False),
        sa.Column("error", Json),
        sa.Column("result", Json),
        sa.Column("cancel_asked", sa.Boolean, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("run_after", UtcTime, nullable=False),
        sa.Column("ended_at", UtcTime),
        sa.Column("leased_by", sa.String(36)),
        sa.Column("leased_until", UtcTime),
    )
    op.create_index("ix_jobs_state_run_after", "jobs", ["state", "run_after"])
    op.create_index(
        "uq_jobs_waiting",
        "jobs",
        ["kind", "unique_key"],
        unique=True,
        sqlite_where=sa.text("unique_key IS NOT NULL AND state = 'queued'"),
        postgresql_where=sa.text("unique_key IS NOT NULL AND state = 'queued'"),
    )
    protect("jobs")


def downgrade() -> None:
    op.drop_table("jobs")
