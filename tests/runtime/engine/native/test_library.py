"""What loading llama.cpp does to the process."""

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.engine.native.bindings import libc

ROOT = Path(__file__).parents[4]

# Large pieces with small ones between them, which stay: a heap could not shrink.
FREED = """
from pathlib import Path
from runtime.engine.native import Library
library = Library()
def resident_megabytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20
for size in (1 << 20, 1 << 21, 1 << 22):  # from which glibc learns
    bytearray(size)
before = resident_megabytes()
kept = [(bytearray(b"x") * (1 << 20), bytearray(b"x") * 100_000) for _ in range(200)]
assert resident_megabytes() - before > 150
kept = [small for _large, small in kept]
print(resident_megabytes() - before)
"""


@pytest.mark.skipif(not hasattr(libc(), "mallopt"), reason="this libc isn't glibc")
def test_memory_that_is_freed_is_given_back() -> None:
    words = [sys.executable, "-c", FREED]
    left = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert int(left) < 50
