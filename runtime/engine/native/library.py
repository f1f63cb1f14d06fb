"""The shared libraries: llama.cpp and ggml's backends."""

import ctypes
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.engine.native.bindings import ggml, libc

_LOG_LEVEL_DEBUG, _LOG_LEVEL_ERROR = 1, 4  # enum ggml_log_level
# llama.cpp calls the last one it was given, also when the library that gave it is gone.
_log_callbacks: list[Any] = []
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h


def give_memory_back() -> None:
    """Have libc give what is freed back to the system, as far as it can be told to.

    glibc learns from each large piece that is freed to take the next ones from its heaps, which shrink at their ends
    only, and has a heap for each thread: after a few large requests hundreds of megabytes would stay.
    """
    if hasattr(libc(), "mallopt"):
        for parameter, value in ((_M_MMAP_THRESHOLD, 1 << 18), (_M_TRIM_THRESHOLD, 1 << 20), (_M_ARENA_MAX, 2)):
            libc().mallopt(parameter, value)


class Library:
    """llama.cpp itself, loaded once a process, with its CPU backends.

    `on_log` gets every line that llama.cpp prints; without it they are kept for error messages only.
    """

    def __init__(self, on_log: Callable[[str], None] | None = None) -> None:
        import llama_cpp.llama_cpp as api

        give_memory_back()
        self.api: Any = api
        self._last_errors: deque[str] = deque(maxlen=3)
        self._on_log = on_log
        self.log_callback = api.llama_log_callback(self._log)
        _log_callbacks.append(self.log_callback)
        api.llama_log_set(self.log_callback, None)
        folder = Path(api.__file__).parent / "lib"
        ggml().ggml_backend_load_all_from_path(os.fsencode(folder))
        api.llama_backend_init()

    def _log(self, level: int, text: bytes, _user_data: object) -> None:
        line = text.decode("utf-8", "replace")
        if level == _LOG_LEVEL_ERROR:
            self._last_errors.append(line.strip())
        if self._on_log is not None and level != _LOG_LEVEL_DEBUG:
            self._on_log(line)

    def why(self) -> str:
        """The last error line that llama.cpp printed, without the function's name before it."""
        line = self._last_errors[0] if self._last_errors else "llama.cpp gave no reason"
        return line.split(": ", 1)[-1]

    def forget_errors(self) -> None:
        self._last_errors.clear()


def resident_fraction(path: Path, offset: int, size: int) -> float:
    """Return how much of a file's range is in memory, 0 to 1, without reading any of it (mincore(2)).

    Loading maps and prefetches the weights in one system call that reports nothing, so this is its progress.
    """
    start = offset - offset % _PAGE_BYTES
    length = offset + size - start
    num_pages = -(-length // _PAGE_BYTES)
    with path.open("rb") as file:
        address = libc().mmap(None, length, 1, 1, file.fileno(), start)  # PROT_READ, MAP_SHARED
    if address in (None, ctypes.c_void_p(-1).value):
        return 0.0
    try:
        pages = ctypes.create_string_buffer(num_pages)
        if libc().mincore(address, length, pages) != 0:
            return 0.0
        # Only the lowest bit of each byte has a meaning; Linux leaves the others 0.
        return pages.raw.count(b"\x01") / num_pages
    finally:
        libc().munmap(address, length)
