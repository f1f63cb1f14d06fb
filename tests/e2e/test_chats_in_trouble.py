"""Chats of the real file when things go wrong: kills, a disk that is full or read-only, locks, others' files and users.

`HOLDALL_KILLS=50 python3 build.py test tests/e2e/test_chats_in_trouble.py -k killed --timeout 0` is the long run.
"""

import contextlib
import logging
import os
import random
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.bundle import Process
from tests.strangers import NOBODY, send, written

Start = Callable[..., Process]
LOG = logging.getLogger(__name__)
OURS = {"x-holdall": "page"}
NUM_KILLS = int(os.environ.get("HOLDALL_KILLS", "2"))
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount and become another user")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def launch(start: Start, data: Path, stories260k: Path) -> Callable[..., Process]:
    """Start the bundle with the smallest model and one data folder."""

    def launch_one(*arguments: str) -> Process:
        options = ("--server", "--nobrowser", "-m", str(stories260k), *arguments)
        return start(*options, environment={"XDG_DATA_HOME": str(data)}).wait_until_ready()

    return launch_one


def file_of(data: Path) -> Path:
    [file] = (data / "holdall").glob("*.chats")
    return file


def ask(process: Process, method: str, path: str, **options: Any) -> httpx.Response:
    return httpx.request(method, f"{process.url}/{path}", headers=OURS, timeout=60, **options)


def message(number: int, text: str) -> dict[str, Any]:
    parent = {"parent": f"m{number - 1}"} if number else {}
    return {"role": ("user", "assistant")[number % 2], "content": text, **parent}


def put(process: Process, chat: str, number: int, text: str) -> httpx.Response:
    return ask(process, "PUT", f"chats/{chat}/messages/m{number}", json=message(number, text))


def refusal(response: httpx.Response) -> str:
    assert response.status_code == 503, response.text
    message: str = response.json()["error"]["message"]
    assert message.startswith("chats can't be kept: ")
    assert message.isprintable()
    return message


class Talker(threading.Thread):
    """Chats as the page does until the program is gone; `said` is what was acknowledged, by message.

    `is_deep` is set once so many writes were acknowledged.
    """

    def __init__(self, process: Process, chat: str, num_writes: int) -> None:
        super().__init__(daemon=True)
        self.said: dict[str, str] = {}
        self.num_written = 0
        self.is_deep = threading.Event()
        self._num_wanted = num_writes
        self._client = httpx.Client(base_url=process.url, headers=OURS, timeout=60)
        self._chat = chat

    def run(self) -> None:
        with contextlib.suppress(httpx.TransportError), self._client:
            for number in range(0, 10_000, 2):
                self._write(number, f"Once {number}")
                answer = ""
                body = {"prompt": f"Once {number}", "n_predict": 8, "stream": True, "seed": number}
                with self._client.stream("POST", "/completion", json=body) as stream:
                    for line in stream.iter_lines():
                        answer += line
                        self._write(number + 1, answer)

    def _write(self, number: int, text: str) -> None:
        address = f"/chats/{self._chat}/messages/m{number}"
        self._client.put(address, json=message(number, text)).raise_for_status()
        self.said[f"m{number}"] = text
        self.num_written += 1
        if self.num_written == self._num_wanted:
            self.is_deep.set()


def test_nothing_acknowledged_is_lost_when_it_is_killed(launch: Start, data: Path) -> None:
    chance = random.Random(NUM_KILLS)
    kept: dict[str, dict[str, str]] = {}
    num_written = 0
    for round_ in range(NUM_KILLS):
        process = launch()
        num_writes = chance.randrange(1, 40)
        talkers = {f"c{round_}-{each}": Talker(process, f"c{round_}-{each}", num_writes) for each in range(2)}
        for talker in talkers.values():
            talker.start()
        assert talkers[f"c{round_}-0"].is_deep.wait(60)
        os.kill(process.worker_pid, signal.SIGKILL)
        process.process.wait(timeout=30)
        for name, talker in talkers.items():
            talker.join(30)
            assert not talker.is_alive()
            kept[name] = talker.said
            num_written += talker.num_written
        with contextlib.closing(sqlite3.connect(file_of(data))) as connection:  # which plays the journal back
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert num_written >= NUM_KILLS
    process = launch()
    assert ask(process, "GET", "page.json").json()["has_history"]
    for name, said in kept.items():
        if not said:
            continue
        found = {each["id"]: each["content"] for each in ask(process, "GET", f"chats/{name}").json()["messages"]}
        # The write that was under way may be there, too: a message more, or a longer text of the last one.
        assert found.keys() >= said.keys()
        assert len(found) <= len(said) + 1
        last = max(said, key=lambda each: int(each[1:]))
        assert {each: found[each] for each in said if each != last} == {
            each: said[each] for each in said if each != last
        }
        assert found[last].startswith(said[last])
    LOG.info("%d kills, %d writes acknowledged", NUM_KILLS, num_written)


@pytest.fixture
def small_disk(data: Path) -> Iterator[Path]:
    data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(data)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield data
    subprocess.run(["umount", "-l", str(data)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


@needs_root
def test_a_disk_that_is_full_or_read_only_loses_nothing_that_was_acknowledged(launch: Start, small_disk: Path) -> None:
    process = launch()
    put(process, "small", 0, "before").raise_for_status()
    text = "word " * 2000
    number = 0
    while (answer := put(process, "large", number, text)).status_code == 200:
        number += 1
    assert refusal(answer) == "chats can't be kept: the disk is full"
    assert number > 0
    assert len(ask(process, "GET", "chats/large").json()["messages"]) == number
    assert ask(process, "GET", "health").status_code == 200
    process.end()
    remount(small_disk, "ro")
    process = launch()
    shown = ask(process, "GET", "page.json").json()
    assert not shown["has_history"]
    assert "can't be written to" in shown["history_problem"]
    assert "can't be written to" in refusal(put(process, "small", 1, "lost"))
    assert "can't be written to" in process.said
    process.end()
    remount(small_disk, "rw,size=2m")
    process = launch()
    assert len(ask(process, "GET", "chats/large").json()["messages"]) == number
    put(process, "small", 1, "after").raise_for_status()
    assert [each["content"] for each in ask(process, "GET", "chats/small").json()["messages"]] == ["before", "after"]


def test_a_file_that_another_program_holds_is_written_to_later(launch: Start, data: Path) -> None:
    process = launch()
    put(process, "c1", 0, "before").raise_for_status()
    with contextlib.closing(sqlite3.connect(file_of(data), isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        assert "another program holds their file" in refusal(put(process, "c1", 1, "in vain"))
        assert ask(process, "GET", "health").status_code == 200
        holder.execute("ROLLBACK")
    put(process, "c1", 1, "after").raise_for_status()
    assert [each["content"] for each in ask(process, "GET", "chats/c1").json()["messages"]] == ["before", "after"]


def with_an_endless_view(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP TABLE chats")
        connection.execute(
            "CREATE VIEW chats AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id FROM n"
        )


def of_another_user(file: Path) -> None:
    os.chown(file, NOBODY, NOBODY)


FOREIGN = [
    (with_an_endless_view, "aren't this program's"),
    *([(of_another_user, "another user of this computer")] if os.geteuid() == 0 else []),  # only root gives files away
]


def test_a_foreign_file_is_left_and_the_program_goes_on(launch: Start, data: Path) -> None:
    process = launch()
    put(process, "c1", 0, "before").raise_for_status()
    file = file_of(data)
    good = file.read_bytes()
    for spoil, words in FOREIGN:
        process.end()
        file.unlink()
        file.write_bytes(good)
        spoil(file)
        before = file.lstat()
        process = launch()
        for method, path in (
            ("GET", "chats"),
            ("GET", "chats/export"),
            ("GET", "chats?search=be"),
            ("DELETE", "chats/c1"),
        ):
            assert words in refusal(ask(process, method, path))
        assert words in ask(process, "GET", "page.json").json()["history_problem"]
        assert words in process.said
        answer = ask(process, "POST", "completion", json={"prompt": "Once", "n_predict": 4})
        assert answer.status_code == 200
        after = file.lstat()
        assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


@needs_root
def test_another_user_of_the_computer_chats_and_sees_no_chats(launch: Start, data: Path) -> None:
    process = launch()
    put(process, "c1", 0, "a secret").raise_for_status()
    for method, path in (("GET", "/chats/export"), ("GET", "/chats"), ("DELETE", "/chats/c1"), ("POST", "/quit")):
        answer = send("127.0.0.1", process.port, written(method, path))
        assert answer.startswith("HTTP/1.1 403 ")
        assert "another user of this computer" in answer
    assert '"has_history":false' in send("127.0.0.1", process.port, written("GET", "/page.json"))
    completion = written("POST", "/completion", '{"prompt":"Once","n_predict":4}')
    assert send("127.0.0.1", process.port, completion).startswith("HTTP/1.1 200 ")
    [message] = ask(process, "GET", "chats/c1").json()["messages"]
    assert message["content"] == "a secret"
