"""Settings of Redis, which carries events between processes and shares the cache."""

from pydantic import SecretStr

from mongars.organ import OrganSettings


class RedisSettings(OrganSettings):
    """Redis, where several processes serve together."""

    url: SecretStr | None = None
    """`redis://[:password@]host:6379/0`; left out: one process, no Redis."""

    timeout_s: float = 1.0
    """How long Redis may take to answer, in seconds, before this process goes on without it."""
