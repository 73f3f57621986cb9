"""What happened, told to whoever listens: in this process, and in the others through Redis."""

from mongars.bus.bus import Bus, Subscription
from mongars.bus.settings import RedisSettings

__all__ = ["Bus", "RedisSettings", "Subscription"]
