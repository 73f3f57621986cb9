"""The table of jobs."""

import sqlalchemy as sa

from mongars.database import Json, UtcTime, metadata

jobs = sa.Table(
    "jobs",
    metadata,
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
    sa.Index("ix_jobs_state_run_after", "state", "run_after"),
    sa.Index(
        "uq_jobs_waiting",
        "kind",
        "unique_key",
        unique=True,
        sqlite_where=sa.text("unique_key IS NOT NULL AND state = 'queued'"),
        postgresql_where=sa.text("unique_key IS NOT NULL AND state = 'queued'"),
    ),
)
