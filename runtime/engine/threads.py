"""What the system says of processors: how many threads can be of use here, and who else wants to run.

Two threads on the two halves of one core get in each other's way (llama.cpp spins at every barrier), and threads
beyond a cgroup's quota are stopped in the middle of a step, so the number of processors alone is a bad guide.
"""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_CPUS = Path("/sys/devices/system/cpu")
_LOADAVG = Path("/proc/loadavg")


def default_num_threads(cgroup: Path = _CGROUP, cpus: Path = _CPUS) -> int:
    """Return how many threads can compute at once, at least 1: the least of affinity, quota and physical cores."""
    allowed = _allowed_cpus()
    return max(1, min(_num_physical_cores(allowed, cpus), _quota(cgroup) or len(allowed)))


def num_cpus() -> int:
    """Return how many processors this process may use."""
    return len(_allowed_cpus())


class TaskCounter:
    """Counts the tasks beside the caller that want to run, from /proc/loadavg (proc(5)); a few microseconds a time.

    The file's count is of the whole machine: a process that is bound to some of its processors takes its share of it.
    """

    def __init__(self, loadavg: Path = _LOADAVG) -> None:
        self._num_cpus, self._num_all_cpus = num_cpus(), os.cpu_count() or 1
        try:
            self._file: int | None = os.open(loadavg, os.O_RDONLY)
        except OSError:
            self._file = None

    def num_others(self) -> int | None:
        """Return the count, None where the system doesn't tell."""
        if self._file is None:
            return None
        try:
            runnable = int(os.pread(self._file, 128, 0).split()[3].split(b"/")[0])
        except (OSError, ValueError, IndexError):
            return None
        if runnable < 1:  # the reader runs, so whoever says 0 doesn't count
            return None
        return (runnable - 1) * self._num_cpus // self._num_all_cpus

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


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
