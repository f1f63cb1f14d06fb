"""Work in a process of its own: answered, ended, limited, and never left behind."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runtime.child import Child, ChildEnded

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 60


def reverse(request: bytes) -> bytes:
    sys.stdout.write("not an answer\n")
    return request[::-1]


def abort(_request: bytes) -> bytes:
    os.write(2, b"\nlib.c:1: it can't be\n")
    os.abort()


def take_memory(request: bytes) -> bytes:
    return str(len(bytearray(int(request)))).encode()


def hang_in_c(_request: bytes) -> bytes:
    """Sleep with Python's lock held, so that no Python code of this process runs."""
    sys.stderr.write(f"pid {os.getpid()}\n")
    sys.stderr.flush()
    ctypes.PyDLL(None).sleep(TIMEOUT_SECONDS)
    return b""


def fail(_request: bytes) -> bytes:
    raise ValueError("not this one")


def a_child(task: str, **options: int) -> Child:
    return Child(f"{__name__}:{task}", **options)


@pytest.mark.parametrize("request_", [b"", b"abc", bytes(range(256)) * 4000], ids=["empty", "short", "long"])
def test_requests_are_answered_one_after_another(request_: bytes) -> None:
    child = a_child("reverse")
    assert [child.ask(request_, TIMEOUT_SECONDS) for _ in range(3)] == [request_[::-1]] * 3
    child.close()


@pytest.mark.parametrize(
    ("task", "how", "words"),
    [
        ("abort", "ended with SIGABRT", "lib.c:1: it can't be"),
        ("fail", "ended with status 1", "ValueError: not this one"),
    ],
)
def test_a_child_that_ends_says_how_and_its_last_words(task: str, how: str, words: str) -> None:
    child = a_child(task)
    with pytest.raises(ChildEnded) as caught:
        child.ask(b"", TIMEOUT_SECONDS)
    child.close()
    assert (caught.value.how, caught.value.has_started, caught.value.is_late) == (how, True, False)
    assert words in caught.value.last_words


def test_a_child_is_refused_more_memory_than_it_may_have() -> None:
    child = a_child("take_memory", memory_bytes=200 << 20)
    assert child.ask(b"1000000", TIMEOUT_SECONDS) == b"1000000"
    with pytest.raises(ChildEnded) as caught:
        child.ask(str(400 << 20).encode(), TIMEOUT_SECONDS)
    child.close()
    assert "MemoryError" in caught.value.last_words


def test_a_child_whose_time_is_up_is_ended() -> None:
    child = a_child("hang_in_c")
    with pytest.raises(ChildEnded) as caught:
        child.ask(b"", 1.0)
    child.close()
    assert caught.value.is_late
    assert child._process.returncode == -signal.SIGIO


def test_a_child_that_is_killed_answers_who_waits_for_it() -> None:
    child = a_child("hang_in_c")
    threading.Timer(1.0, child.kill).start()
    with pytest.raises(ChildEnded, match="SIGIO"):
        child.ask(b"", TIMEOUT_SECONDS)
    child.close()


@pytest.mark.parametrize("program", [["true"], ["echo", "some", "words"]], ids=["ends", "speaks otherwise"])
def test_what_is_no_child_of_ours_has_not_started(program: list[str]) -> None:
    child = Child("tests:none", program=program)
    with pytest.raises(ChildEnded) as caught:
        child.ask(b"x", TIMEOUT_SECONDS)
    child.close()
    assert not caught.value.has_started


@pytest.mark.parametrize("state", ["at work", "waiting"])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for the process in /proc")
def test_a_child_ends_with_its_parent(state: str) -> None:
    code = (
        "import threading, time; from runtime.child import Child\n"
        f"child = Child('{__name__}:{'hang_in_c' if state == 'at work' else 'reverse'}')\n"
        f"ask = lambda: child.ask(b'', {TIMEOUT_SECONDS})\n"
        "asking = threading.Thread(target=ask, daemon=True); asking.start()\n"
        f"{'' if state == 'at work' else 'asking.join()'}\n"
        "while not (child._lines or not asking.is_alive()): time.sleep(0.01)\n"
        "print(child._process.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_running(pid)
    parent.kill()
    parent.wait(TIMEOUT_SECONDS)
    parent.stdout.close()
    deadline = time.monotonic() + TIMEOUT_SECONDS / 2
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
