"""Chats on disk, kept by the real file: over restarts, ports, kills and a second launch; and the face it shows."""

import os
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.bundle import Process, build

Start = Callable[..., Process]
OURS = {"x-holdall": "page"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def launch(start: Start, data: Path) -> Callable[..., Process]:
    """Start the bundle, each time on another port, with one data folder."""

    def launch_one(*arguments: str) -> Process:
        options = ("--server", "--nobrowser", *arguments)
        return start(*options, environment={"XDG_DATA_HOME": str(data)}).wait_until_ready()

    return launch_one


def put(process: Process, path: str, body: dict[str, Any]) -> None:
    httpx.put(f"{process.url}/{path}", json=body, headers=OURS, timeout=30).raise_for_status()


def get(process: Process, path: str) -> Any:
    return httpx.get(f"{process.url}/{path}", timeout=30).raise_for_status().json()


def test_chats_are_there_again_on_another_port(launch: Start, data: Path) -> None:
    first = launch()
    put(first, "chats/c1/messages/m1", {"role": "user", "content": "Où est l'été ?", "title": "Été"})
    put(first, "chats/c1/messages/m2", {"role": "assistant", "parent": "m1", "content": "En juillet.", "leaf": "m2"})
    kept = get(first, "chats/c1")
    first.end()
    second = launch()
    assert second.port != first.port
    assert get(second, "chats/c1") == kept
    assert [each["id"] for each in get(second, "chats?search=JUILLET")["chats"]] == ["c1"]
    [file] = (data / "holdall").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_kill_loses_at_most_the_sentence_that_was_being_written(launch: Start) -> None:
    first = launch()
    put(first, "chats/c1/messages/m1", {"role": "user", "content": "Tell me a story."})
    written = 0

    def write_until_it_is_gone() -> None:
        nonlocal written
        for number in range(1, 100_000):
            text = " ".join(f"Sentence {each}." for each in range(1, number + 1))
            body = {"role": "assistant", "parent": "m1", "content": text, "is_partial": True}
            put(first, "chats/c1/messages/m2", body)
            written = number
            if number == 30:
                os.kill(first.worker_pid, signal.SIGKILL)  # while the next ones are already on their way

    with pytest.raises(httpx.TransportError):
        write_until_it_is_gone()
    first.process.wait(timeout=30)
    assert written >= 30
    question, answer = get(launch(), "chats/c1")["messages"]
    assert question["content"] == "Tell me a story."
    assert answer["content"].split("Sentence ")[-1] in (f"{written}.", f"{written + 1}.")
    assert answer["is_partial"] is True


def test_two_launches_at_once_share_the_chats(launch: Start) -> None:
    first, second = launch(), launch()
    put(first, "chats/c1/messages/m1", {"role": "user", "content": "one"})
    put(second, "chats/c1/messages/m2", {"role": "assistant", "parent": "m1", "content": "two"})
    assert [each["content"] for each in get(first, "chats/c1")["messages"]] == ["one", "two"]


def test_a_program_that_only_serves_its_api_makes_no_file(launch: Start, data: Path) -> None:
    process = launch()
    httpx.post(f"{process.url}/completion", json={"prompt": "Once", "n_predict": 4}, timeout=60).raise_for_status()
    process.end()
    assert [path for path in data.rglob("*") if not path.is_dir()] == []  # the sandbox wants the folder itself


def test_quit_ends_the_program(launch: Start) -> None:
    process = launch()
    assert httpx.post(f"{process.url}/quit", timeout=30).status_code == 403
    assert httpx.post(f"{process.url}/quit", headers=OURS, timeout=30).json() == {"quitting": True}
    assert process.process.wait(timeout=30) == 0
    assert not list(process.temporary.iterdir())


def test_a_bundle_with_a_face_keeps_its_chats_beside_itself(stories260k: Path, tmp_path: Path) -> None:
    (tmp_path / "icon.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    recipe = tmp_path / "helper.toml"
    shutil.copy(stories260k, tmp_path / "tiny.gguf")
    recipe.write_text(
        'model = "tiny.gguf"\nname = "Story Teller"\nicon = "icon.svg"\nwelcome = "Once upon a time…"\n'
        'suggestions = ["Tell me of a dragon."]\nlicense = "MIT"\n[defaults]\ntemperature = 0.5\n'
    )
    bundle = tmp_path / "stick" / "story-teller"
    built = build(bundle, str(recipe))
    assert built.returncode == 0, built.stderr
    beside = bundle.with_name("story-teller.chats")
    beside.touch()
    process = Process(bundle, tmp_path / "run", "--server", "--nobrowser")
    try:
        shown = get(process.wait_until_ready(), "page.json")
        assert (shown["name"], shown["welcome"]) == ("Story Teller", "Once upon a time…")
        assert (shown["suggestions"], shown["model"]["licence"]) == (["Tell me of a dragon."], "MIT")
        assert shown["icon"].startswith("data:image/svg+xml;base64,")
        assert (shown["defaults"]["temperature"], shown["has_history"]) == (0.5, True)
        assert get(process, "props")["default_generation_settings"]["params"]["temperature"] == 0.5
        put(process, "chats/c1/messages/m1", {"role": "user", "content": "A dragon!"})
    finally:
        process.kill_if_alive()
    assert beside.stat().st_size > 0
    assert not (tmp_path / "run" / "data").exists()
    assert {each.name for each in beside.parent.iterdir()} == {"story-teller", "story-teller.chats"}
