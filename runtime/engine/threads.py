"""How many threads this process can really use: affinity, the container's quota and physical cores, whichever is least.

Two threads on the two halves of one core get in each other's way (llama.cpp spins at every barrier), and threads
beyond a cgroup's quota are stopped in the middle of a step, so the number of processors alone is a bad guide.
"""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_CPUS = Path("/sys/devices/system/cpu")


def default_num_threads(cgroup: Path = _CGROUP, cpus: Path = _CPUS) -> int:
    """Return the number of threads to compute with, at least 1."""
    allowed = _allowed_cpus()
    return max(1, min(_num_physical_cores(allowed, cpus), _quota(cgroup) or len(allowed)))


def _allowed_cpus() -> set[int]:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _num_physical_cores(allowed: set[int], cpus: Path) -> int:
    """Count each core once, however many of its hardware threads are allowed."""
    cores = set()
    for cpu in allowed:
        topology = cpus / f"cpu{cpu}" / "topology"
        try:
            cores.add(((topology / "physical_package_id").read_text(), (topology / "core_id").read_text()))
        except OSError:
            cores.add((str(cpu), ""))
    return len(cores)


def _quota(cgroup: Path) -> int | None:
    """Return the whole processors that cgroup v2's `cpu.max` or v1's `cfs_quota` grants; None when unlimited."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    if quota == "max" or int(quota) <= 0:
        return None
    return max(1, math.floor(int(quota) / int(period)))
