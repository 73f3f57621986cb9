"""What this machine can carry."""

from mongars.hardware.hardware import recommended_worker_count

__all__ = ["recommended_worker_count"]
