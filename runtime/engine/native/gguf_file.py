"""A GGUF opened for llama.cpp, wherever in a file it begins: a `FILE *` at that position."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.engine.native.bindings import libc
from runtime.errors import ModelError

_SEEK_SET = 0


def open_gguf(path: Path, offset: int) -> int:
    """Return a `FILE *` of `path` at `offset` (bytes); whoever calls closes it. Raises ModelError."""
    file: int | None = libc().fopen(os.fsencode(path), b"rb")
    if not file:
        raise ModelError(f"can't open {path}: {os.strerror(ctypes.get_errno())}")
    libc().fseeko(file, offset, _SEEK_SET)
    return file


@contextmanager
def opened_gguf(path: Path, offset: int) -> Iterator[int]:
    """The same for as long as a `with` block lasts."""
    file = open_gguf(path, offset)
    try:
        yield file
    finally:
        libc().fclose(file)
