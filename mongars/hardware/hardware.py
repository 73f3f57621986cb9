"""How many workers, how much memory, which board: what the kernel says of this machine.

Everything is read below a root, so that a tree of files stands for a machine. What is missing or
unreadable counts as not said; nothing here raises. The kernel's files: proc(5), cgroups(7), the
kernel's cgroup-v2 guide, and the device tree's `model` for boards.
"""

import math
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_CORES = 8192
"""Core numbers above this one are not believed (the kernel's own limit on x86-64)."""

UNLIMITED_BYTES = 1 << 60
"""Version 1 control groups write «no limit» as a number near 2^63."""


@dataclass(frozen=True)
class Memory:
    """Bytes of memory: what there is, and what is left; `None` where the machine does not say."""

    total: int | None
    available: int | None


@dataclass(frozen=True)
class Machine:
    """What this machine is and can carry."""

    cores: int
    """Cores this process may run on."""
    workers: int
    """How many workers may compute at the same time (`recommended_worker_count`)."""
    memory: Memory
    """Memory, bounded by the control group."""
    board: str | None
    """The board's name, as in `Raspberry Pi 5 Model B Rev 1.0`; only where there is one."""
    architecture: str
    """The processor's kind, as in `x86_64` or `aarch64`."""


def recommended_worker_count(root: Path = Path("/")) -> int:
    """How many workers may compute at the same time here: usable cores, bounded by the cgroup quota.

    Reads `/proc`, `/sys` and the device tree below `root`; at least 1.
    """
    cores = _cores(root)
    quota = _quota_cores(root)
    return max(1, cores if quota is None else min(cores, math.floor(quota)))


def memory_bytes(root: Path = Path("/")) -> Memory:
    """Memory of this machine, bounded by what the control group may use."""
    said = dict(_meminfo(root))
    total, available = said.get("MemTotal"), said.get("MemAvailable", said.get("MemFree"))
    if total is None and root == Path("/"):
        total = _installed_bytes()
    for folder, limit_file, usage_file in (
        *((folder, "memory.max", "memory.current") for folder in _groups_v2(root)),
        *(
            (f, "memory.limit_in_bytes", "memory.usage_in_bytes")
            for f in _groups_v1(root, "memory")
        ),
    ):
        limit = _number(folder / limit_file)
        if limit is None or limit >= UNLIMITED_BYTES:
            continue
        total = limit if total is None else min(total, limit)
        left = max(0, limit - _used_bytes(folder, usage_file))
        available = left if available is None else min(available, left)
    return Memory(total, available)


def describe(root: Path = Path("/")) -> Machine:
    """Everything others ask about this machine."""
    return Machine(
        cores=_cores(root),
        workers=recommended_worker_count(root),
        memory=memory_bytes(root),
        board=_board(root),
        architecture=platform.machine() or "unknown",
    )


# -- cores ---------------------------------------------------------------------------------------


def _cores(root: Path) -> int:
    """Cores this process may run on: those that are there, allowed to it and in its cpuset."""
    there = _listed(root / "sys/devices/system/cpu/online") or _numbered(root)
    allowed = _allowed(root)
    for folder in (*_groups_v2(root), *_groups_v1(root, "cpuset")):
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
            listed = _listed(folder / name)
            if listed:
                allowed = (allowed & listed if allowed else listed) or allowed
                break
    usable = (there & allowed or allowed) if there and allowed else there or allowed
    if usable:
        return len(usable)
    return (os.cpu_count() or 1) if root == Path("/") else 1


def _allowed(root: Path) -> set[int]:
    for line in _text(root / "proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name == "Cpus_allowed_list":
            return _parsed(value)
    return set()


def _numbered(root: Path) -> set[int]:
    """Cores as `/proc/stat`, `/proc/cpuinfo` or the device tree number them."""
    stat = (
        line.split(maxsplit=1)[0] for line in _text(root / "proc/stat").splitlines() if line.strip()
    )
    found = {int(n[3:]) for n in stat if n.startswith("cpu") and _is_core(n[3:])}
    if not found:
        info = (line.partition(":") for line in _text(root / "proc/cpuinfo").splitlines())
        found = {
            int(value) for name, _, value in info if name.strip() == "processor" and _is_core(value)
        }
    if not found:
        for base in ("proc/device-tree/cpus", "sys/firmware/devicetree/base/cpus"):
            found = found or set(range(len(_named(root / base, "cpu@"))))
    return found


def _listed(path: Path) -> set[int]:
    return _parsed(_text(path))


def _parsed(ranges: str) -> set[int]:
    """The cores of a kernel list such as `0-3,6`; parts that are none are passed over."""
    found: set[int] = set()
    for part in ranges.strip().split(","):
        first, dash, last = part.strip().partition("-")
        if _is_core(first) and (_is_core(last) if dash else True):
            found.update(range(int(first), int(last or first) + 1))
    return found


def _is_core(written: str) -> bool:
    digits = written.strip()
    return digits.isascii() and digits.isdigit() and len(digits) < 6 and int(digits) < MOST_CORES


def _quota_cores(root: Path) -> float | None:
    """Cores' worth of time that the control groups allow: the least of this one and those above."""
    quotas = [_quota_v2(folder) for folder in _groups_v2(root)]
    quotas += [_quota_v1(folder) for folder in _groups_v1(root, "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_v2(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    return _ratio(_whole(quota), _whole(period) if period else 100_000)


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us"))


def _ratio(quota: int | None, period: int | None) -> float | None:
    return None if not quota or not period else quota / period


# -- memory and board ----------------------------------------------------------------------------


def _meminfo(root: Path) -> Iterator[tuple[str, int]]:
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        kilobytes = _whole(value.removesuffix("kB"))
        if kilobytes is not None:
            yield name, kilobytes * 1024


def _installed_bytes() -> int | None:
    """What the system's own call says where there is no `/proc` (macOS)."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _used_bytes(folder: Path, usage_file: str) -> int:
    """What the group uses and cannot give back: without file pages not used for some time."""
    used = _number(folder / usage_file) or 0
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            used -= min(used, _whole(value) or 0)
            break
    return used


def _board(root: Path) -> str | None:
    for path in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        name = _text(root / path).replace("\0", "").strip()
        if name:
            return name
    return None


# -- control groups ------------------------------------------------------------------------------


def _groups_v2(root: Path) -> Iterator[Path]:
    """This process's version 2 group and those above it, the innermost first."""
    inside = next(
        (path for ids, names, path in _memberships(root) if not names and ids == "0"), "/"
    )
    for mount in ("sys/fs/cgroup", "sys/fs/cgroup/unified"):
        yield from _upwards(root / mount, inside)


def _groups_v1(root: Path, controller: str) -> Iterator[Path]:
    """This process's group under a version 1 controller and those above it."""
    inside, mounts = "/", [controller]
    for _, names, path in _memberships(root):
        if controller in names.split(","):
            inside, mounts = path, list(dict.fromkeys((names, controller)))
    for mount in mounts:
        yield from _upwards(root / "sys/fs/cgroup" / mount, inside)


def _memberships(root: Path) -> Iterator[tuple[str, str, str]]:
    """`/proc/self/cgroup`: hierarchy, controllers, path."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            yield parts[0], parts[1], parts[2]


def _upwards(mount: Path, inside: str) -> Iterator[Path]:
    """From a group to the mount; where a container sees only the mount, the rest is not there."""
    parts = [part for part in inside.split("/") if part not in ("", ".", "..")]
    for depth in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:depth])


# -- files ---------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    """The file as text; empty where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except (OSError, ValueError):
        return ""


def _number(path: Path) -> int | None:
    return _whole(_text(path))


def _whole(written: str) -> int | None:
    """A whole number from 0 on; `None` for anything else, such as `max` and `-1`."""
    digits = written.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 25 else None


def _named(folder: Path, prefix: str) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir() if entry.name.startswith(prefix)]
    except OSError:
        return []
