"""What the tests have a nursery and its children do."""

import os
import signal
import socket
import time
from pathlib import Path

_prepared = b"nothing"


def prepare(given: bytes) -> bytes:
    global _prepared
    _prepared = given
    return b""


def echo(given: bytes) -> bytes:
    return _prepared + b" " + given


def process_id(_given: bytes) -> bytes:
    return str(os.getpid()).encode()


def crash(_given: bytes) -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def raise_an_error(_given: bytes) -> bytes:
    raise ValueError("a bug")


def allocate(given: bytes) -> bytes:
    return str(len(bytearray(int(given)))).encode()


def compute_without_end(given: bytes) -> bytes:
    Path(given.decode()).write_text(str(os.getpid()), encoding="ascii")
    while True:
        pass


def sleep_without_end(given: bytes) -> bytes:
    Path(given.decode()).write_text(str(os.getpid()), encoding="ascii")
    while True:
        time.sleep(60)


def descriptors(_given: bytes) -> bytes:
    """How many sockets the child has: its task's, and no other's."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            count += str(link.readlink()).startswith("socket:")
        except OSError:
            continue
    return str(count).encode()


def has_a_silent_end(_given: bytes) -> bytes:
    os.write(2, b"the last words of a library")
    return socket.gethostname().encode()
