"""How a bundle starts, what it takes from the machine, and how it ends."""

import os
import pty
import select
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.e2e.bundle import Process, free_port, wait_until

Start = Callable[..., Process]


def run(bundle: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(bundle), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_health_is_503_with_progress_and_then_200(start: Start) -> None:
    process = start()
    answers: list[httpx.Response] = []

    def is_ready() -> bool:
        try:
            answers.append(httpx.get(f"{process.url}/health", timeout=5))
        except httpx.TransportError:
            return False
        return answers[-1].status_code == 200

    wait_until(is_ready, 60, "becoming ready")
    assert answers[-1].json()["status"] == "ok"
    for answer in answers[:-1]:  # there may be none: this model loads within milliseconds
        assert answer.status_code == 503
        assert 0 <= answer.json()["progress"] <= 1


def test_a_request_that_comes_while_the_model_loads_is_answered(start: Start) -> None:
    process = start()

    def answers() -> bool:
        try:
            body = {"prompt": "Once upon a time", "n_predict": 4, "ignore_eos": True}
            return bool(httpx.post(f"{process.url}/completion", json=body, timeout=60).json()["content"])
        except httpx.ConnectError:
            return False

    wait_until(answers, 60, "an answer")


def test_the_weights_are_mapped_from_the_executable(bundle: Path, bundle_server: Process) -> None:
    maps = Path(f"/proc/{bundle_server.worker_pid}/maps").read_text().splitlines()
    sizes = []
    for line in maps:
        fields = line.split(maxsplit=5)
        if fields[-1] == str(bundle):
            start, end = (int(address, 16) for address in fields[0].split("-"))
            sizes.append(end - start)
    assert sum(sizes) > 90_000_000


def test_a_launch_writes_less_than_60_mb_to_disk(bundle_server: Process) -> None:
    assert 0 < folder_bytes(bundle_server.temporary) < 60_000_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_at_once_and_nothing_is_left_behind(start: Start, number: signal.Signals) -> None:
    process = start().wait_until_ready()
    process.end(number)
    assert list(process.temporary.iterdir()) == []
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{process.url}/health", timeout=5)


def test_a_signal_ends_it_in_the_middle_of_a_generation(start: Start) -> None:
    process = start().wait_until_ready()
    body = {"prompt": "Once upon a time", "stream": True, "ignore_eos": True}
    with httpx.stream("POST", f"{process.url}/completion", json=body, timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        process.end()
        with pytest.raises(httpx.TransportError):
            list(lines)
    assert list(process.temporary.iterdir()) == []


def test_ctrl_c_in_a_terminal_ends_it(bundle: Path, tmp_path: Path) -> None:
    port = str(free_port())
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        os.execve(bundle, [str(bundle), "--server", "--nobrowser", "--port", port], environment)
    said = b""
    while b"Ctrl-C" not in said:
        assert select.select([terminal], [], [], 60)[0], f"it said only {said!r}"
        said += os.read(terminal, 4096)
    os.write(terminal, b"\x03")
    statuses: list[int] = []

    def has_ended() -> bool:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            statuses.append(os.waitstatus_to_exitcode(status))
        return bool(ended)

    wait_until(has_ended, 10, "the end")
    os.close(terminal)
    assert b"Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_that_was_asked_for_is_a_one_line_error(bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        ended = run(bundle, "--server", "--nobrowser", "--port", str(port))
    assert ended.returncode == 5
    assert ended.stderr == (
        f"error: port {port} on 127.0.0.1 is taken by another program; choose another with --port\n"
    )


def test_without_a_port_the_next_free_one_is_used_and_said(bundle: Path, tmp_path: Path, start: Start) -> None:
    with socket.socket() as blocker:
        blocker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            blocker.bind(("127.0.0.1", 8080))
            blocker.listen()
        except OSError:
            pass  # somebody else holds it: just as well
        log = tmp_path / "log"
        with log.open("wb") as out:
            process = subprocess.Popen([str(bundle), "--server", "--nobrowser"], stdout=out, stderr=out)
        try:
            wait_until(lambda: "Ctrl-C" in log.read_text(), 60, "saying the address")
        finally:
            process.terminate()
            process.wait(timeout=30)
    said = log.read_text().splitlines()
    assert len(said) == 1
    assert "(port 8080 was taken)" in said[0]
    assert "http://127.0.0.1:80" in said[0]
    assert "http://127.0.0.1:8080" not in said[0]


def test_without_nobrowser_the_page_opens(start: Start, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1 $LD_LIBRARY_PATH" > {opened}\n')
    browser.chmod(0o755)
    port = str(free_port())
    start("--port", port, environment={"BROWSER": str(browser), "LD_LIBRARY_PATH": ""})
    wait_until(lambda: opened.exists() and opened.read_text().endswith("\n"), 60, "opening the page")
    assert opened.read_text().split() == [f"http://127.0.0.1:{port}"]


def test_an_unknown_flag_suggests_the_nearest_one(bundle: Path) -> None:
    ended = run(bundle, "--nobrowsr")
    assert ended.returncode == 2
    assert ended.stderr == "error: command line: there is no flag --nobrowsr, did you mean --nobrowser?; see --help\n"


def test_help_and_version_read_no_model(bundle: Path) -> None:
    version = run(bundle, "--version")
    assert version.returncode == 0
    assert version.stdout.startswith("holdall ")
    assert "SmolLM2-135M-Instruct" in version.stdout
    shown = run(bundle, "--help")
    assert shown.returncode == 0
    assert "--ctx-size" in shown.stdout


def test_another_model_beside_the_bundle_can_be_used(start: Start, stories260k: Path) -> None:
    process = start("--server", "--nobrowser", "-m", str(stories260k), "-ngl", "9999", "-t", "1").wait_until_ready()
    answer = httpx.post(f"{process.url}/completion", json={"prompt": "Once", "n_predict": 8}, timeout=60)
    assert answer.json()["tokens_predicted"] == 8


def test_a_model_that_is_none_is_a_one_line_error(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + b"\xff" * 1000)
    ended = run(bundle, "--server", "--nobrowser", "--port", str(free_port()), "-m", str(path))
    assert ended.returncode == 4
    assert ended.stderr.splitlines()[-1].startswith(f"error: can't load the model in {path}")
    assert "Traceback" not in ended.stderr


def test_a_context_that_no_computer_holds_is_refused_before_the_model_is_loaded(bundle: Path) -> None:
    ended = run(bundle, "-c", "2000000000", "--server", "--nobrowser", "--port", "0")
    assert ended.returncode == 4
    assert "needs about" in ended.stderr
    assert "try -c " in ended.stderr


def test_a_truncated_bundle_says_so(bundle: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    data = bundle.read_bytes()
    # The end is kept, so that it starts at all: what is missing is a piece in the middle of the model.
    damaged.write_bytes(data[:20_000_000] + data[30_000_000:])
    damaged.chmod(0o755)
    ended = run(damaged, "--server", "--nobrowser", "--port", str(free_port()))
    assert ended.returncode == 3
    assert ended.stderr.startswith("error: ")
    assert len(ended.stderr.splitlines()) == 1
