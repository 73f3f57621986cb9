"""What was worked out once and need not be again, kept in memory, Redis and on disk."""

from mongars.cache.settings import CacheSettings

__all__ = ["CacheSettings"]
