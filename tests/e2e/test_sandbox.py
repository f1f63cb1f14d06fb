"""The sandbox around the real bundle: everything goes on working in it, and nothing is outside of it."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from runtime.sandbox import landlock
from tests.conftest import unavailable
from tests.e2e.bundle import Process, free_port, wait_until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is a sandbox on Linux only")

Start = Callable[..., Process]
OUR_PAGE = {"x-holdall": "page"}
TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}


def facts_of_threads(process: Process, name: str) -> set[str]:
    """Return what /proc says under `name` of the serving process's threads."""
    found = set()
    for thread in Path(f"/proc/{process.worker_pid}/task").iterdir():
        for line in (thread / "status").read_text().splitlines():
            key, _colon, value = line.partition(":")
            if key == name:
                found.add(value.strip())
    return found


def use_everything(url: str) -> None:
    """Ask for whatever opens a file or starts a thread after the model is loaded."""
    with httpx.Client(base_url=url, timeout=60) as client:
        use_everything_with(client)


def use_everything_with(client: httpx.Client) -> None:
    chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    client.post("/v1/chat/completions", json=chat).raise_for_status()
    form = {"response_format": {"type": "json_object"}}
    client.post("/v1/chat/completions", json={**chat, **form}).raise_for_status()
    tools = {"tools": [TOOL], "tool_choice": "required"}
    client.post("/v1/chat/completions", json={**chat, **tools}).raise_for_status()
    client.post("/v1/messages", json={**chat, "model": "m"}).raise_for_status()
    client.post("/api/chat", json={**chat, "model": "m", "options": {"num_predict": 4}}).raise_for_status()
    client.post("/v1/embeddings", json={"input": "Hello"}).raise_for_status()
    for action in ("save", "restore"):
        client.post("/slots/0", params={"action": action}, json={"filename": "kept"}).raise_for_status()
    client.get("/").raise_for_status()
    assert client.get("/page.json").json()["has_history"]
    question = {"role": "user", "content": "Why? " * 100, "title": "Kept"}
    for number in range(50):
        client.put(f"/chats/c{number}/messages/m", json=question, headers=OUR_PAGE).raise_for_status()
    exported = client.get("/chats/export", headers=OUR_PAGE)
    exported.raise_for_status()
    client.post("/chats/import", content=exported.content, headers=OUR_PAGE).raise_for_status()
    client.get("/chats", params={"search": "why"}, headers=OUR_PAGE).raise_for_status()
    client.delete("/chats/c1", headers=OUR_PAGE).raise_for_status()


def traced(bundle: Path, folder: Path) -> Path:
    """Return a program that is the bundle under strace, which writes to `folder`/trace."""
    strace = shutil.which("strace")
    if strace is None:
        unavailable("strace is not installed")
    program = folder / "traced"
    program.write_text(f'#!/bin/sh\nexec {strace} -f -qq -o {folder}/trace -e trace=all {bundle} "$@"\n')
    program.chmod(0o755)
    return program


def test_everything_is_served_and_nothing_that_serving_does_is_refused(bundle: Path, tmp_path: Path) -> None:
    program = traced(bundle, tmp_path)
    process = Process(program, tmp_path / "run", "--server", "--nobrowser", "--slot-save-path", str(tmp_path / "slots"))
    try:
        process.wait_until_ready()
        use_everything(process.url)
        httpx.post(f"{process.url}/quit", headers=OUR_PAGE, timeout=20).raise_for_status()
        assert process.process.wait(timeout=60) == 0
    finally:
        process.kill_if_alive()
    lines = (tmp_path / "trace").read_text(errors="replace").splitlines()
    entered = max(number for number, line in enumerate(lines) if " seccomp(" in line)
    refused = [
        line for line in lines[entered:] if line.endswith(")") and ("= -1 EPERM" in line or "= -1 EACCES" in line)
    ]
    assert refused == []
    assert not list(process.temporary.iterdir())  # what the launch unpacked is gone
    assert len(list((tmp_path / "slots").iterdir())) == 1


def test_each_thread_is_inside(start: Start) -> None:
    process = start("--server", "--nobrowser", "--verbose").wait_until_ready()
    chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    httpx.post(f"{process.url}/v1/chat/completions", json=chat, timeout=60).raise_for_status()
    assert facts_of_threads(process, "Seccomp") == {"2"}  # SECCOMP_MODE_FILTER
    assert facts_of_threads(process, "NoNewPrivs") == {"1"}
    assert "sandbox: no programs" in process.said
    assert ("(Landlock " in process.said) == (landlock.abi_version() > 0)


def test_it_can_be_switched_off(start: Start) -> None:
    process = start("--server", "--nobrowser", "--no-sandbox", "--verbose").wait_until_ready()
    assert facts_of_threads(process, "NoNewPrivs") == {"0"}
    assert "sandbox: " not in process.said


def test_the_browser_is_outside(start: Start, tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\ngrep -E 'NoNewPrivs' /proc/self/status > {facts}.part\nmv {facts}.part {facts}\n")
    browser.chmod(0o755)
    start("--port", str(free_port()), environment={"BROWSER": str(browser)})
    wait_until(facts.exists, 60, "opening the page")
    assert facts.read_text().split() == ["NoNewPrivs:", "0"]


def test_chats_beside_the_executable_are_kept(bundle: Path, tmp_path: Path) -> None:
    own = tmp_path / "stick" / "bundle"
    own.parent.mkdir()
    os.link(bundle, own)
    (own.parent / "bundle.chats").touch()
    process = Process(own, tmp_path / "run", "--server", "--nobrowser")
    try:
        process.wait_until_ready()
        question = {"role": "user", "content": "Why?", "title": "Kept"}
        httpx.put(f"{process.url}/chats/c/messages/m", json=question, headers=OUR_PAGE, timeout=20).raise_for_status()
    finally:
        process.kill_if_alive()
    assert (own.parent / "bundle.chats").stat().st_size > 0
    assert sorted(path.name for path in own.parent.iterdir()) == ["bundle", "bundle.chats"]
