"""The program's life without a bundle around it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from runtime.store.place import file_name

ROOT = Path(__file__).parents[3]


def launch(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "runtime", "--nobrowser", *arguments]
    variables = {**os.environ, "DISPLAY": "", **environment}
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=variables)


def test_it_serves_until_a_signal_and_ends_without_a_word(stories260k: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    process = launch("-m", str(stories260k), "--port", str(port), "-c", "0", "-t", "0")
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == f"stories260K is at http://127.0.0.1:{port}; Ctrl-C ends it\n"
        deadline = time.monotonic() + 60
        while httpx.get(f"http://127.0.0.1:{port}/health", timeout=30).status_code != 200:
            assert time.monotonic() < deadline
        props = httpx.get(f"http://127.0.0.1:{port}/props", timeout=30).json()
        assert props["default_generation_settings"]["n_ctx"] == 2048  # -c 0: what the model was trained for
    finally:
        process.send_signal(signal.SIGTERM)
        _out, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")


def test_a_model_that_cannot_be_loaded_ends_the_program_in_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF\x03\x00\x00\x00" + b"\x01" * 100)
    process = launch("-m", str(broken), "--port", "0")
    _out, said = process.communicate(timeout=60)
    assert process.returncode == 4
    assert said.splitlines()[-1].startswith(f"error: can't load the model in {broken}: ")
    assert "Traceback" not in said


@pytest.mark.parametrize(("host", "is_warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
@pytest.mark.parametrize("key", [(), ("--api-key", "k")], ids=["open", "key"])
def test_listening_elsewhere_without_a_key_is_warned_of(
    stories260k: Path, host: str, is_warned: bool, key: tuple[str, ...]
) -> None:
    program = launch("-m", str(stories260k), "--host", host, "--port", "0", *key)
    assert program.stderr is not None
    try:
        address = program.stderr.readline().split(" is at ")[1].split(";")[0]
        if is_warned and not key:
            assert program.stderr.readline().startswith("warning: other computers can use it, and read its chats,")
        for headers, status in (({}, 401 if key else 200), ({"x-api-key": "k"}, 200)):
            assert httpx.get(f"{address}/props", headers=headers, timeout=20).status_code == status
    finally:
        program.send_signal(signal.SIGTERM)
        _, rest = program.communicate(timeout=20)
    assert rest == ""


def test_what_strangers_send_is_no_news_for_the_terminal(stories260k: Path) -> None:
    program = launch("-m", str(stories260k), "--port", "0")
    assert program.stderr is not None
    try:
        port = int(program.stderr.readline().split(";")[0].rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as stranger:
            stranger.sendall(b"\x16\x03\x01\r\n\r\n")
            assert b"400 Bad Request" in stranger.recv(1000)
    finally:
        program.send_signal(signal.SIGTERM)
        _, rest = program.communicate(timeout=20)
    assert rest == ""


OUR_PAGE = {"x-holdall": "page"}


def test_chats_survive_the_program_and_quit_ends_it(stories260k: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in range(2):
        program = launch("-m", str(stories260k), "--port", "0", XDG_DATA_HOME=str(data))
        assert program.stderr is not None
        try:
            address = program.stderr.readline().split(" is at ")[1].split(";")[0]
            chats = httpx.get(f"{address}/chats", timeout=20).json()["chats"]
            assert [each["title"] for each in chats] == ["Kept"] * number
            question = {"role": "user", "content": "Why?", "title": "Kept"}
            httpx.put(f"{address}/chats/c1/messages/m1", json=question, headers=OUR_PAGE, timeout=20).raise_for_status()
            assert httpx.post(f"{address}/quit", headers=OUR_PAGE, timeout=20).json() == {"quitting": True}
            _, rest = program.communicate(timeout=20)
        finally:
            program.kill()
        assert (program.returncode, rest) == (0, "")
    [file] = (data / "holdall").iterdir()
    assert file.name.startswith("stories260K-")


def test_chats_that_cannot_be_kept_are_one_line_and_stop_nothing(stories260k: Path, tmp_path: Path) -> None:
    (tmp_path / "holdall").mkdir()
    file = tmp_path / "holdall" / file_name("stories260K")
    file.write_text("Dear diary")
    program = launch("-m", str(stories260k), "--port", "0", XDG_DATA_HOME=str(tmp_path))
    assert program.stderr is not None
    try:
        address = program.stderr.readline().split(" is at ")[1].split(";")[0]
        shown = httpx.get(f"{address}/page.json", timeout=20).json()
        assert (shown["has_history"], shown["history_problem"][:20]) == (False, "chats can't be kept:")
        assert str(tmp_path) not in shown["history_problem"]
        assert httpx.get(f"{address}/chats", timeout=20).status_code == 503
        body = {"prompt": "Once", "n_predict": 2}
        assert httpx.post(f"{address}/completion", json=body, timeout=60).json()["tokens_predicted"] == 2
    finally:
        program.send_signal(signal.SIGTERM)
        _, rest = program.communicate(timeout=20)
    [line] = rest.splitlines()
    assert line.startswith("warning: chats can't be kept:")
    assert str(file) in line
    assert file.read_text() == "Dear diary"


def test_without_history_nothing_is_written(stories260k: Path, tmp_path: Path) -> None:
    program = launch("-m", str(stories260k), "--port", "0", "--no-history", XDG_DATA_HOME=str(tmp_path))
    assert program.stderr is not None
    try:
        address = program.stderr.readline().split(" is at ")[1].split(";")[0]
        assert httpx.get(f"{address}/page.json", timeout=20).json()["has_history"] is False
        assert httpx.get(f"{address}/chats", timeout=20).status_code == 404
    finally:
        program.send_signal(signal.SIGTERM)
        program.communicate(timeout=20)
    assert list(tmp_path.iterdir()) == []


BROKEN = """
from runtime.engine.worker import Worker
from runtime.program import life
from runtime.program.cli import main

def break_down(*_given):
    raise ZeroDivisionError("in secret")

def load(*given, **named):
    engine = whole(*given, **named)
    Worker.turn = break_down
    {second}
    return engine

whole, life.load = life.load, load
raise SystemExit(main())
"""


def launch_broken(model: Path, second: str) -> tuple[subprocess.Popen[str], str]:
    """Start a program whose engine fails at its first request; return it and its address."""
    command = [sys.executable, "-c", BROKEN.format(second=second)]
    options = ["-m", str(model), "--port", "0", "--nobrowser", "--no-history"]
    program = subprocess.Popen([*command, *options], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert program.stderr is not None
    return program, program.stderr.readline().split(" is at ")[1].split(";")[0]


def test_an_engine_that_fails_for_good_ends_the_program_in_one_line(stories260k: Path) -> None:
    program, address = launch_broken(stories260k, "Worker.__init__ = break_down")
    try:
        response = httpx.post(f"{address}/completion", json={"prompt": "Once", "n_predict": 2}, timeout=30)
        assert response.status_code in (500, 503)
        assert "secret" not in response.text
        _, rest = program.communicate(timeout=30)
    finally:
        program.kill()
    assert program.returncode == 70
    [line] = rest.splitlines()
    assert line.startswith("error: the engine has stopped: ")


def test_an_engine_that_starts_anew_says_what_to_do(stories260k: Path) -> None:
    program, address = launch_broken(stories260k, "")
    try:
        for _ in range(3):  # whatever a client sends, the program goes on
            response = httpx.post(f"{address}/v1/messages", json=QUESTION, timeout=30)
            assert response.status_code == 503
            assert "send the request again" in response.json()["error"]["message"]
            assert httpx.get(f"{address}/health", timeout=30).json() == {"status": "ok"}
    finally:
        program.send_signal(signal.SIGTERM)
        _, rest = program.communicate(timeout=30)
    assert (program.returncode, rest) == (0, "")


QUESTION = {"model": "any", "max_tokens": 2, "messages": [{"role": "user", "content": "Once"}]}
