"""Work that outlives the process that was asked for it: enqueued in the transaction that makes it true."""

from mongars.jobs.job import Job, JobState, Work
from mongars.jobs.jobs import Handler, Jobs
from mongars.jobs.settings import JobsSettings
from mongars.jobs.store import forget_person, sweep

__all__ = ["Handler", "Job", "JobState", "Jobs", "JobsSettings", "Work", "forget_person", "sweep"]
