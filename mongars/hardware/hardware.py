"""How many threads and processes this machine should be given."""

import math
from pathlib import Path


def recommended_worker_count(root: Path = Path("/")) -> int:
    """How many workers may compute at the same time here: usable cores, bounded by the cgroup quota.

    Reads `/proc`, `/sys` and the device tree below `root`; at least 1.
    """
    cores = _cores(root)
    quota = _cgroup_quota_cores(root)
    return max(1, cores if quota is None else min(cores, math.floor(quota)))


def _cores(root: Path) -> int:
    """Cores this process may run on, else those that are online."""
    try:
        status = (root / "proc/self/status").read_text()
    except OSError:
        return 1
    for line in status.splitlines():
        if line.startswith("Cpus_allowed_list:"):
            return _count_list(line.partition(":")[2].strip())
    return 1


def _count_list(ranges: str) -> int:
    """The length of a kernel list such as `0-3,6`."""
    count = 0
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return count


def _cgroup_quota_cores(root: Path) -> float | None:
    """Cores' worth of time that the control group allows (v2 `cpu.max`, v1 `cfs_quota_us`)."""
    try:
        quota, period = (root / "sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        cpu = root / "sys/fs/cgroup/cpu"
        quota_us = int((cpu / "cpu.cfs_quota_us").read_text())
        period_us = int((cpu / "cpu.cfs_period_us").read_text())
        return None if quota_us <= 0 else quota_us / period_us
    except (OSError, ValueError):
        return None
