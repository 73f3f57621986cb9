"""Settings of the database."""

from pydantic import SecretStr

from mongars.organ import OrganSettings


class DatabaseSettings(OrganSettings):
    """Where what must last is kept."""

    url: SecretStr | None = None
    """`postgresql://user:password@host/name`; left out: SQLite, in the data directory."""

    readers: int = 4
    """How many connections may read at the same time (SQLite)."""

    connections: int = 20
    """How many connections one process keeps open at most (PostgreSQL)."""

    wait_s: float = 5.0
    """How long a transaction waits for its turn, in seconds, before it answers 503."""
