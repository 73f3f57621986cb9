"""Settings of the cache."""

from pydantic import Field

from mongars.organ import OrganSettings

MIB = 1024 * 1024


class CacheSettings(OrganSettings):
    """What was worked out once and need not be again: memory, then Redis, then disk."""

    memory_bytes: int = Field(32 * MIB, ge=0)
    """How much the cache of one process may hold in memory, in bytes; 0 turns this tier off."""

    memory_ttl_s: float = Field(600.0, gt=0)
    """How long an entry stays in memory at most, in seconds."""

    redis_ttl_s: float = Field(86_400.0, gt=0)
    """How long an entry stays in Redis at most, in seconds (only where `redis.url` is set)."""

    redis_timeout_s: float = Field(0.25, gt=0)
    """How long Redis may take to answer, in seconds, before it counts as away."""

    disk_bytes: int = Field(256 * MIB, ge=0)
    """How much the cache may hold on disk, in bytes; 0 turns this tier off."""

    disk_ttl_s: float = Field(30 * 86_400.0, gt=0)
    """How long an entry stays on disk at most, in seconds."""

    retry_s: float = Field(5.0, gt=0)
    """How long a tier that did not answer is left alone, in seconds, before it is asked again."""
