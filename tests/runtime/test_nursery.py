"""Children do what is asked, within limits, and are gone when nobody waits for them."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.nursery import Limits, Nursery, Patience, TaskFailed

TASKS = "tests.nursery_tasks"
LIMITS = Limits(cpu_seconds=20, seconds=30.0, memory_bytes=64 * 1024 * 1024)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    nursery = Nursery.start()
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
    except FileNotFoundError:
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
def test_time_is_bounded_and_the_child_is_gone_then(nursery: Nursery, tmp_path: Path, limits: Limits) -> None:
    with pytest.raises(TaskFailed):
        run(nursery, "compute_without_end", bytes(tmp_path / "pid"), limits)
    assert within_a_minute(lambda: is_gone(int((tmp_path / "pid").read_text(encoding="ascii"))))


@pytest.mark.parametrize("task", ["compute_without_end", "sleep_without_end"])
def test_a_child_is_gone_when_whoever_waited_leaves(nursery: Nursery, tmp_path: Path, task: str) -> None:
    patience = Patience(60.0)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(nursery.run, f"{TASKS}:{task}", bytes(tmp_path / "pid"), LIMITS, patience)
        assert within_a_minute(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").stat().st_size > 0)
        patience.leave()
        with pytest.raises(TaskFailed):
            running.result(timeout=30)
    assert patience.has_left
    assert within_a_minute(lambda: is_gone(int((tmp_path / "pid").read_text(encoding="ascii"))))


def test_a_patience_is_for_all_tasks_together(nursery: Nursery, tmp_path: Path) -> None:
    patience = Patience(0.5)
    with pytest.raises(TaskFailed):
        nursery.run(f"{TASKS}:sleep_without_end", bytes(tmp_path / "pid"), LIMITS, patience)
    with pytest.raises(TaskFailed, match="no time left"):
        nursery.run(f"{TASKS}:echo", b"", LIMITS, patience)


def test_a_child_has_no_socket_but_its_own(nursery: Nursery) -> None:
    assert run(nursery, "descriptors") == b"1"


def test_a_childs_last_words_are_not_heard(nursery: Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    run(nursery, "has_a_silent_end")
    assert capfd.readouterr().err == ""


def test_no_process_is_left_when_the_program_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys; from runtime.nursery import *; nursery = Nursery.start(); print(nursery._process_id, flush=True);"
        f"nursery.run('{TASKS}:sleep_without_end', sys.argv[1].encode(), Limits(cpu_seconds=60, seconds=60.0,"
        "memory_bytes=2**26))"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "pid")]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        nursery_id = int(process.stdout.readline())
        assert within_a_minute(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").stat().st_size > 0)
        process.kill()
    assert within_a_minute(lambda: is_gone(nursery_id))
    assert within_a_minute(lambda: is_gone(int((tmp_path / "pid").read_text(encoding="ascii"))))


def test_after_its_end_tasks_fail_at_once() -> None:
    nursery = Nursery.start()
    nursery.close()
    with pytest.raises(TaskFailed, match="gone"):
        run(nursery, "echo")
