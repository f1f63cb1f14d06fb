"""ggml's thread pool."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from runtime.engine.native.bindings import ThreadPoolParams, ggml, libc

_CPU = 0  # GGML_BACKEND_DEVICE_TYPE_CPU


class ThreadPool:
    """ggml's threads, kept from step to step.

    Without a pool ggml starts new threads for every step, and now and then the kernel puts one beside another on the
    same processor, where they wait for each other. `poll` 0 lets them sleep between steps instead of spinning.
    """

    def __init__(self, max_threads: int) -> None:
        registry = ggml()
        cpu = registry.ggml_backend_dev_backend_reg(registry.ggml_backend_dev_by_type(_CPU))
        new = registry.ggml_backend_reg_get_proc_address(cpu, b"ggml_threadpool_new")
        free = registry.ggml_backend_reg_get_proc_address(cpu, b"ggml_threadpool_free")
        self._free = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(free)
        params = ThreadPoolParams(n_threads=max_threads, poll=0)
        make = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(ThreadPoolParams))(new)
        before = _threads()
        self.handle = make(ctypes.byref(params))
        self.threads = _threads() - before

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Keep the pool's threads off the caller's processor while it computes with them, where Linux lets us.

        In a virtual machine Linux takes a processor that rests for one that was taken away. It then wakes a thread on
        the processor of whoever wakes it, which is busy waiting for it: some 10 ms until one of them is moved.
        """
        allowed = os.sched_getaffinity(0) if self.threads else set[int]()
        if len(allowed) <= len(self.threads):  # more threads than processors: they have to share
            yield
            return
        self._bind(allowed - {libc().sched_getcpu()})
        try:
            yield
        finally:
            self._bind(allowed)

    def _bind(self, cpus: set[int]) -> None:
        for thread in self.threads:
            with contextlib.suppress(OSError):  # a sandbox may forbid it
                os.sched_setaffinity(thread, cpus)

    def close(self) -> None:
        self._free(self.handle)


def _threads() -> set[int]:
    """Return the kernel's numbers of this process's threads; none where that isn't Linux."""
    try:
        return {int(task.name) for task in Path("/proc/self/task").iterdir()}
    except FileNotFoundError:
        return set()
