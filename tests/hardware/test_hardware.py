"""Machines as trees of files below a temporary root."""

from pathlib import Path

import pytest

from mongars.hardware import describe, memory_bytes, recommended_worker_count

GIB = 1024**3
EIGHT = {
    "proc/self/status": "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\n",
    "sys/devices/system/cpu/online": "0-7\n",
}


def machine(root: Path, *trees: dict[str, str]) -> Path:
    for tree in trees:
        for name, text in tree.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("tree", "workers"),
    [
        pytest.param(
            {
                "proc/self/status": "Cpus_allowed_list:\t0-3\n",
                "proc/self/cgroup": "0::/user.slice\n",
                "sys/fs/cgroup/cpu.max": "max 100000\n",
            },
            4,
            id="host with four cores",
        ),
        pytest.param(
            EIGHT | {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"},
            1,
            id="one and a half of eight",
        ),
        pytest.param(
            EIGHT
            | {
                "proc/self/cgroup": "0::/kubepods/pod1/c1\n",
                "sys/fs/cgroup/kubepods/pod1/c1/cpu.max": "max 100000\n",
                "sys/fs/cgroup/kubepods/pod1/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/kubepods/cpu.max": "600000 100000\n",
            },
            3,
            id="the group above allows less",
        ),
        pytest.param(
            EIGHT
            | {
                "proc/self/cgroup": "0::/../../system.slice/x\n",
                "sys/fs/cgroup/cpu.max": "200000 100000\n",
            },
            2,
            id="a path that leaves its namespace",
        ),
        pytest.param(
            EIGHT
            | {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            2,
            id="version 1, nested",
        ),
        pytest.param(
            EIGHT
            | {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
            id="version 1, seen from inside a container",
        ),
        pytest.param(
            EIGHT
            | {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
            id="version 1 without a limit",
        ),
        pytest.param(
            {
                "proc/self/status": "Cpus_allowed_list:\t2,4-5\n",
                "sys/devices/system/cpu/online": "0-7\n",
            },
            3,
            id="bound to three cores",
        ),
        pytest.param(
            EIGHT | {"sys/fs/cgroup/cpuset.cpus.effective": "1-2\n"}, 2, id="cpuset of two"
        ),
        pytest.param(
            {
                "proc/self/status": "Cpus_allowed_list:\t0-127\n",
                "sys/devices/system/cpu/online": "0-3\n",
            },
            4,
            id="more allowed than there are",
        ),
        pytest.param(
            {
                "proc/cpuinfo": "".join(
                    f"processor\t: {n}\nBogoMIPS\t: 108.00\n" for n in range(4)
                ),
                "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            },
            4,
            id="Pi without control groups",
        ),
        pytest.param(
            {
                "proc/device-tree/cpus/cpu@0/reg": "",
                "proc/device-tree/cpus/cpu@1/reg": "",
                "proc/device-tree/cpus/cpu-map/x": "",
            },
            2,
            id="device tree only",
        ),
        pytest.param({}, 1, id="nothing at all"),
        pytest.param(
            EIGHT | {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "5000 100000\n"},
            1,
            id="a twentieth of a core",
        ),
    ],
)
def test_workers_are_the_usable_cores_within_the_quota(
    tmp_path: Path, tree: dict[str, str], workers: int
) -> None:
    assert recommended_worker_count(machine(tmp_path, tree)) == workers


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        "\n",
        "max",
        "abc def",
        "-5 100000",
        "100000 0",
        "1 2 3",
        "9" * 5000,
        "²",
        "\x00\xff",
        "0-99999999999",
        "3-1,,x",
    ],
)
def test_nonsense_counts_as_not_said(tmp_path: Path, nonsense: str) -> None:
    names = [
        "proc/self/cgroup",
        "proc/meminfo",
        "proc/stat",
        "proc/device-tree/model",
        "sys/fs/cgroup/cpu.max",
        "sys/fs/cgroup/memory.max",
        "sys/fs/cgroup/cpuset.cpus.effective",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us",
        "sys/devices/system/cpu/online",
    ]
    tree = dict.fromkeys(names, nonsense)
    status = {"proc/self/status": "Cpus_allowed_list:\t0-3\n"}
    assert recommended_worker_count(machine(tmp_path, tree, status)) == 4
    assert describe(tmp_path).memory.total is None


def test_folders_in_the_place_of_files_count_as_not_said(tmp_path: Path) -> None:
    for name in ("proc/self/status", "proc/meminfo", "sys/fs/cgroup/cpu.max"):
        (tmp_path / name).mkdir(parents=True)
    assert recommended_worker_count(tmp_path) == 1


MEMINFO = {"proc/meminfo": "MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 4194304 kB\n"}


def test_memory_is_what_the_kernel_says(tmp_path: Path) -> None:
    memory = memory_bytes(machine(tmp_path, MEMINFO))
    assert (memory.total, memory.available) == (8 * GIB, 4 * GIB)


def test_memory_is_bounded_by_the_control_group(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/a/b"
    tree = {
        "proc/self/cgroup": "0::/a/b\n",
        f"{group}/memory.max": f"{2 * GIB}\n",
        f"{group}/memory.current": f"{GIB + GIB // 2}\n",
        f"{group}/memory.stat": f"anon 5\ninactive_file {GIB}\n",
        "sys/fs/cgroup/a/memory.max": "max\n",
    }
    memory = memory_bytes(machine(tmp_path, MEMINFO, tree))
    assert (memory.total, memory.available) == (2 * GIB, GIB + GIB // 2)


def test_memory_is_bounded_by_a_version_1_group_and_no_limit_is_none(tmp_path: Path) -> None:
    mount = "sys/fs/cgroup/memory"
    tree = {
        "proc/self/cgroup": "4:memory:/x\n",
        f"{mount}/memory.limit_in_bytes": "9223372036854771712\n",
        f"{mount}/x/memory.limit_in_bytes": f"{GIB}\n",
        f"{mount}/x/memory.usage_in_bytes": f"{2 * GIB}\n",
    }
    memory = memory_bytes(machine(tmp_path, MEMINFO, tree))
    assert (memory.total, memory.available) == (GIB, 0)


def test_the_board_has_the_name_in_its_device_tree(tmp_path: Path) -> None:
    tree = {"sys/firmware/devicetree/base/model": "NVIDIA Jetson Orin Nano\0"}
    found = describe(machine(tmp_path, EIGHT, MEMINFO, tree))
    assert found.board == "NVIDIA Jetson Orin Nano"
    assert (found.cores, found.workers) == (8, 8)
    assert found.architecture


def test_this_machine_can_be_described() -> None:
    found = describe()
    assert 1 <= found.workers <= found.cores
    assert found.memory.total
