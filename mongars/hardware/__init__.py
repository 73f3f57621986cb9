"""What this machine can carry."""

from mongars.hardware.hardware import (
    Machine,
    Memory,
    describe,
    memory_bytes,
    recommended_worker_count,
)

__all__ = ["Machine", "Memory", "describe", "memory_bytes", "recommended_worker_count"]
