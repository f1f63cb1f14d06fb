"""What the tests have a nursery and its children do."""

import mmap
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
    """Take memory that no process before has had."""
    return str(len(mmap.mmap(-1, int(given), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))).encode()


def compute_without_end(given: bytes) -> bytes:
    _tell(int(given))
    while True:
        pass


def sleep_without_end(given: bytes) -> bytes:
    _tell(int(given))
    while True:
        time.sleep(60)


def _tell(pipe: int) -> None:
    """Write this process's id into a pipe that was open before the nursery was: a child can open nothing."""
    os.write(pipe, b"%d\n" % os.getpid())


def read_a_file(given: bytes) -> bytes:
    return Path(given.decode()).read_bytes()


def run_a_program(_given: bytes) -> bytes:
    os.execv("/bin/true", ["true"])
    return b""


def make_a_process(_given: bytes) -> bytes:
    return str(os.fork()).encode()


def connect(given: bytes) -> bytes:
    socket.create_connection(("127.0.0.1", int(given)), 10)
    return b""


def has_a_silent_end(_given: bytes) -> bytes:
    os.write(2, b"the last words of a library")
    return socket.gethostname().encode()
