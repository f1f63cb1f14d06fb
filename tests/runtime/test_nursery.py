"""Children do what is asked, within limits, and are gone when nobody waits for them."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.nursery import Limits, NoTimeLeft, Nursery, Patience, TaskFailed
from tests import nursery_tasks

TASKS = "tests.nursery_tasks"
LIMITS = Limits(cpu_seconds=20, seconds=30.0, memory_bytes=64 * 1024 * 1024)
ROOT = Path(__file__).parents[2]
TASKS_OF_TESTS = [f"{TASKS}:{name}" for name in dir(nursery_tasks) if not name.startswith("_") and name != "prepare"]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Where a child can say which process it is: one that was open before it, for it can open nothing."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def nursery(pipe: tuple[int, int]) -> Iterator[Nursery]:
    nursery = Nursery.start(preparations=[f"{TASKS}:prepare"], tasks=TASKS_OF_TESTS)
    yield nursery
    nursery.close()


def run(nursery: Nursery, task: str, given: bytes = b"", limits: Limits = LIMITS) -> bytes:
    return nursery.run(f"{TASKS}:{task}", given, limits)


def within_a_minute(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    waiting = threading.Event()
    while not condition() and time.monotonic() < deadline:
        waiting.wait(0.01)
    return condition()


def is_gone(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def test_a_child_has_what_was_prepared_and_gives_back_any_number_of_bytes(nursery: Nursery) -> None:
    assert run(nursery, "echo", b"a") == b"nothing a"
    nursery.prepare(f"{TASKS}:prepare", b"something")
    assert run(nursery, "echo", b"a" * 5_000_000) == b"something " + b"a" * 5_000_000


def test_each_task_has_a_process_of_its_own(nursery: Nursery) -> None:
    with ThreadPoolExecutor(8) as threads:
        pids = list(threads.map(lambda _: run(nursery, "process_id"), range(40)))
    assert len(set(pids)) > 30
    assert str(os.getpid()).encode() not in pids


@pytest.mark.parametrize("task", ["crash", "raise_an_error", "no_such_function"])
def test_a_child_that_fails_is_told_apart_and_harms_nobody(nursery: Nursery, task: str) -> None:
    with pytest.raises(TaskFailed):
        run(nursery, task)
    assert run(nursery, "echo", b"a") == b"nothing a"


def test_memory_is_bounded(nursery: Nursery) -> None:
    assert run(nursery, "allocate", b"20000000") == b"20000000"
    with pytest.raises(TaskFailed):
        run(nursery, "allocate", b"100000000")


@pytest.mark.parametrize(
    "limits",
    [
        Limits(cpu_seconds=1, seconds=60.0, memory_bytes=LIMITS.memory_bytes),
        Limits(cpu_seconds=60, seconds=0.5, memory_bytes=LIMITS.memory_bytes),
    ],
    ids=["of the processor", "on the clock"],
)
def test_time_is_bounded_and_the_child_is_gone_then(nursery: Nursery, pipe: tuple[int, int], limits: Limits) -> None:
    with pytest.raises(TaskFailed):
        run(nursery, "compute_without_end", b"%d" % pipe[1], limits)
    process_id = int(os.read(pipe[0], 100))
    assert within_a_minute(lambda: is_gone(process_id))


@pytest.mark.parametrize("task", ["compute_without_end", "sleep_without_end"])
def test_a_child_is_gone_when_whoever_waited_leaves(nursery: Nursery, pipe: tuple[int, int], task: str) -> None:
    patience = Patience(60.0)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(nursery.run, f"{TASKS}:{task}", b"%d" % pipe[1], LIMITS, patience)
        process_id = int(os.read(pipe[0], 100))
        patience.leave()
        with pytest.raises(TaskFailed):
            running.result(timeout=30)
    assert patience.has_left
    assert within_a_minute(lambda: is_gone(process_id))


def test_a_patience_is_for_all_tasks_together(nursery: Nursery, pipe: tuple[int, int]) -> None:
    patience = Patience(0.5)
    with pytest.raises(NoTimeLeft):
        nursery.run(f"{TASKS}:sleep_without_end", b"%d" % pipe[1], LIMITS, patience)
    with pytest.raises(NoTimeLeft):
        nursery.run(f"{TASKS}:echo", b"", LIMITS, patience)


@pytest.mark.parametrize("task", ["run_a_program", "make_a_process", "read_a_file", "connect"])
def test_a_child_only_computes(nursery: Nursery, tmp_path: Path, task: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(TaskFailed):
        run(nursery, task, bytes(tmp_path / "file") if task == "read_a_file" else b"%d" % listening.getsockname()[1])


def test_a_childs_last_words_are_not_heard(nursery: Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    run(nursery, "has_a_silent_end")
    assert capfd.readouterr().err == ""


def test_no_process_is_left_when_the_program_is_killed() -> None:
    program = (
        f"from runtime.nursery import *; task = '{TASKS}:sleep_without_end'\n"
        "nursery = Nursery.start(preparations=[], tasks=[task]); print(nursery._process_id, flush=True)\n"
        "nursery.run(task, b'1', Limits(cpu_seconds=60, seconds=60.0, memory_bytes=2**26))"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process_ids = [int(process.stdout.readline()) for _ in range(2)]
        process.kill()
    for process_id in process_ids:
        assert within_a_minute(lambda gone=process_id: is_gone(gone))


@pytest.mark.parametrize("work", ["os:system", f"{TASKS}:prepare", "tests.nursery_tasks:echo "])
def test_what_it_was_not_started_for_it_does_not_do(nursery: Nursery, tmp_path: Path, work: str) -> None:
    """Not even for who has taken over the program, which can send it anything."""
    if work != f"{TASKS}:prepare":
        nursery.prepare(work, b"touch " + bytes(tmp_path / "made"))
    nursery.prepare(f"{TASKS}:echo", b"")  # a task, but no preparation
    with pytest.raises(TaskFailed):
        nursery.run(work, b"touch " + bytes(tmp_path / "made"), LIMITS)
    assert run(nursery, "echo", b"a") == b"nothing a"
    assert not (tmp_path / "made").exists()


def test_it_outlives_a_moment_without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        forked = iter([os.fork, no_process, os.fork])
        patched.setattr(os, "fork", lambda: next(forked)())
        nursery = Nursery.start(preparations=[], tasks=[f"{TASKS}:echo"])
    with pytest.raises(TaskFailed):
        run(nursery, "echo")
    assert run(nursery, "echo", b"a") == b"nothing a"
    nursery.close()


def no_process() -> int:
    raise BlockingIOError


def test_its_end_is_not_kept_off_by_another_process_that_has_its_socket() -> None:
    nursery = Nursery.start(preparations=[], tasks=[])
    with nursery._control.dup():
        nursery.close()


def test_after_its_end_tasks_fail_at_once() -> None:
    nursery = Nursery.start(preparations=[f"{TASKS}:prepare"], tasks=TASKS_OF_TESTS)
    nursery.close()
    with pytest.raises(TaskFailed, match="gone"):
        run(nursery, "echo")
