"""Settings of background work."""

from mongars.organ import OrganSettings


class JobsSettings(OrganSettings):
    """Background work."""

    lease_s: float = 15.0
    """How long a worker may be silent, in seconds, before another one takes its job over."""

    poll_s: float = 1.0
    """How often a worker looks for jobs that other processes enqueued, in seconds."""

    attempts: int = 5
    """How many times a job is tried when it fails for a passing reason or its worker dies."""

    retry_s: float = 2.0
    """Pause before the second try, in seconds; it doubles with each further one."""

    keep_days: int = 7
    """How long ended jobs can be looked up, in days."""
