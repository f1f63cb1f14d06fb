from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.engine.values.commands import EraseSlot, ListSlots, RestoreSlot, Saved, SaveSlot, SlotState, Work
from runtime.engine.values.events import Timings
from runtime.errors import RequestError, Unavailable
from runtime.server.service import EndpointFlags
from tests.asking import request_for
from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app

BUSY = SlotState(1, 12, Work(7, request_for((1, 2), max_tokens=10), Timings(8, 2, 3, 0.5, 0.25), True))


def act(path: str, engine: ScriptedEngine, folder: Path | None, **request: Any) -> tuple[int, dict[str, Any]]:
    response = ask(make_app(engine, flags=EndpointFlags(slot_folder=folder)), "POST", path, **request)
    return response.status_code, response.json()


def test_each_slot_tells_what_it_does_without_anyones_words() -> None:
    engine = ScriptedEngine()
    engine.answers[ListSlots] = (SlotState(0, 5, None), BUSY)
    idle, busy = ask(make_app(engine), "GET", "/slots").json()
    assert idle == {"id": 0, "n_ctx": 4096, "speculative": False, "is_processing": False, "n_prompt_tokens": 5}
    assert (busy["is_processing"], busy["id_task"], busy["n_prompt_tokens"]) == (True, 7, 12)
    assert (busy["n_prompt_tokens_processed"], busy["n_prompt_tokens_cache"]) == (8, 2)
    assert busy["next_token"] == [{"has_next_token": True, "has_new_line": True, "n_remain": 7, "n_decoded": 3}]
    assert busy["params"]["n_predict"] == 10
    assert "prompt" not in busy


@pytest.mark.parametrize("speculation", ["none", "ngram-simple", "draft-simple"])
def test_how_tokens_are_guessed_ahead_is_told_wherever_llama_server_does(speculation: str) -> None:
    engine = ScriptedEngine()
    engine.info = replace(engine.info, speculation=speculation)
    engine.answers[ListSlots] = (BUSY,)
    app = make_app(engine)
    (slot,) = ask(app, "GET", "/slots").json()
    assert slot["speculative"] is (speculation != "none")
    props = ask(app, "GET", "/props").json()
    answer = ask(app, "POST", "/completion", json={"prompt": "Hi"}).json()
    chat = {"messages": [{"role": "user", "content": "Hi"}], "verbose": True}
    verbose = ask(app, "POST", "/v1/chat/completions", json=chat).json()["__verbose"]
    settings = (
        slot["params"],
        props["default_generation_settings"]["params"],
        answer["generation_settings"],
        verbose["generation_settings"],
    )
    assert [each["speculative.types"] for each in settings] == [speculation] * 4


def test_who_asks_for_an_idle_slot_hears_whether_there_is_one() -> None:
    engine = ScriptedEngine()
    for states, status in (((BUSY,), 503), ((BUSY, SlotState(0, 0, None)), 200)):
        engine.answers[ListSlots] = states
        assert ask(make_app(engine), "GET", "/slots?fail_on_no_slot=1").status_code == status


def test_slots_are_told_of_only_where_they_may() -> None:
    response = ask(make_app(ScriptedEngine(), flags=EndpointFlags(has_slots=False)), "GET", "/slots")
    assert (response.status_code, response.json()["error"]["type"]) == (501, "not_supported_error")


def test_a_slot_is_saved_restored_and_erased(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    engine.answers = {SaveSlot: Saved(84, 1000), RestoreSlot: Saved(84, 1000), EraseSlot: 84}
    status, saved = act("/slots/1?action=save", engine, tmp_path, json={"filename": "a b.bin"})
    assert (status, saved.pop("timings").keys()) == (200, {"save_ms"})
    assert saved == {"id_slot": 1, "filename": "a b.bin", "n_saved": 84, "n_written": 1000}
    status, restored = act("/slots/0?action=restore", engine, tmp_path, json={"filename": "a b.bin"})
    assert (status, restored["n_restored"], restored["n_read"]) == (200, 84, 1000)
    assert act("/slots/2?action=erase", engine, tmp_path) == (200, {"id_slot": 2, "n_erased": 84})
    assert engine.commands == [SaveSlot(1, tmp_path / "a b.bin"), RestoreSlot(0, tmp_path / "a b.bin"), EraseSlot(2)]


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", ".hidden", "C:x", "a\0b", "a\nb", "x" * 201, "é" * 150),
        *(None, 5, ["a"], "a?", "a*"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("action", ["save", "restore"])
def test_a_file_is_named_by_a_plain_name(tmp_path: Path, action: str, name: object) -> None:
    engine = ScriptedEngine()
    status, told = act(f"/slots/0?action={action}", engine, tmp_path, json={"filename": name})
    assert (status, told["error"]["param"]) == (400, "filename")
    assert not engine.commands


@pytest.mark.parametrize("slot", ["4", "-1", "x", "1.5", "9" * 30, "²"])
def test_a_slot_that_is_none_is_refused(tmp_path: Path, slot: str) -> None:
    status, told = act(f"/slots/{slot}?action=erase", ScriptedEngine(), tmp_path)
    assert (status, told["error"]["param"]) == (400, "id_slot")


@pytest.mark.parametrize("query", ["", "?action=", "?action=delete"])
def test_an_action_that_is_none_is_refused(tmp_path: Path, query: str) -> None:
    status, told = act(f"/slots/0{query}", ScriptedEngine(), tmp_path)
    assert (status, told["error"]["param"]) == (400, "action")


def test_without_a_folder_nothing_is_saved() -> None:
    status, told = act("/slots/0?action=save", ScriptedEngine(), None, json={"filename": "x"})
    assert (status, told["error"]["type"]) == (501, "not_supported_error")


@pytest.mark.parametrize(("error", "status"), [(Unavailable("no room"), 503), (RequestError("no file"), 400)])
def test_what_the_engine_says_no_to_is_told(tmp_path: Path, error: Exception, status: int) -> None:
    engine = ScriptedEngine()
    engine.answers[SaveSlot] = error
    found, told = act("/slots/0?action=save", engine, tmp_path, json={"filename": "x"})
    assert (found, told["error"]["message"]) == (status, str(error))
    assert str(tmp_path) not in told["error"]["message"]
