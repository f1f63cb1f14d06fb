"""What the system says of processors: how many threads can be of use here, who else wants to run, how a step went.

Two threads on the two halves of one core get in each other's way (llama.cpp spins at every barrier), and threads
beyond a cgroup's quota are stopped in the middle of a step, so the number of processors alone is a bad guide.
"""

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

from runtime.engine.policy.pace import Pace

_CGROUP = Path("/sys/fs/cgroup")
_CPUS = Path("/sys/devices/system/cpu")
_LOADAVG = Path("/proc/loadavg")
_SECONDS_BEFORE_SAMPLES = (0.0, 0.0005, 0.0005)


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
        """Return the count, None where the system doesn't report one."""
        if self._file is None:
            return None
        try:
            runnable = int(os.pread(self._file, 128, 0).split()[3].split(b"/")[0])
        except (OSError, ValueError, IndexError):
            return None
        if runnable < 1:  # the reader itself runs, so a 0 is no count
            return None
        return (runnable - 1) * self._num_cpus // self._num_all_cpus

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class PacedSteps:
    """Steps computed with as many threads as the machine can give at the moment. The engine's thread only."""

    def __init__(self, num_threads: int | None) -> None:
        """Always `num_threads`, or with None what `Pace` decides before each step."""
        self._fixed = num_threads
        self._pace = Pace(default_num_threads(), num_cpus())
        self._tasks = TaskCounter()

    def num_others(self) -> int | None:
        """Return how many tasks beside the caller want to run; any thread may ask."""
        return self._tasks.num_others()

    def num_threads(self) -> int | None:
        """Return the number for the next step, None where it never changes."""
        return self._pace.num_threads(time.monotonic()) if self._fixed is None else None

    def compute(self, step: Callable[[], None], set_threads: Callable[[int], None]) -> None:
        """Compute a step with the number of threads that is right now, and learn from how it went."""
        if self._fixed is not None:
            step()
            return
        started, cpu_before = time.monotonic(), time.process_time()
        num_threads = self._pace.num_threads(started)
        set_threads(num_threads)
        step()
        ended = time.monotonic()
        # Now, and not before the next step: then the last tokens are on their way, and those who carry them run, too.
        self.count_tasks()
        self._pace.observe_step(num_threads, ended - started, time.process_time() - cpu_before, ended)

    def count_tasks(self) -> None:
        if self._fixed is None:
            self._pace.observe_tasks(self._tasks.num_others())

    def sample_run_queue(self, num_others: int | None) -> None:
        """After an idle spell, sample the run queue up to three times and stop at the first empty sample.

        The process that sent the request is often still in the first, `num_others`, which was taken when it came.
        """
        if self._fixed is not None:
            return
        self._pace.forget()
        self._pace.observe_tasks(num_others)
        for seconds in _SECONDS_BEFORE_SAMPLES:
            if not num_others:
                return
            if seconds:  # else the interpreter's lock would go to others first
                time.sleep(seconds)
            num_others = self._tasks.num_others()
            self._pace.observe_tasks(num_others)

    def close(self) -> None:
        self._tasks.close()


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
