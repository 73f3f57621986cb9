"""What was worked out once and need not be again, kept in memory, Redis and on disk."""

from mongars.cache.cache import TieredCache
from mongars.cache.entry import Entry, Forgotten
from mongars.cache.ports import CacheTier
from mongars.cache.settings import CacheSettings

__all__ = ["CacheSettings", "CacheTier", "Entry", "Forgotten", "TieredCache"]
