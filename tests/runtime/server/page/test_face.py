from typing import Any

import pytest

from runtime.container import Face, Manifest
from runtime.engine.values.answer_settings import ANSWER_SETTINGS
from runtime.engine.values.media import MediaKind
from runtime.errors import HistoryError
from runtime.server.door.security import Access
from runtime.server.page.face import described
from runtime.server.page.history import History
from runtime.store.store import ChatStore
from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app

FACE = Face(icon="data:image/png;base64,AA==", welcome="Hello!", suggestions=("Why?", "How?"), system="Be brief.")
MANIFEST = Manifest(
    "Helper",
    (),
    "Helps with things",
    {"name": "Tiny", "architecture": "llama", "size": 5000, "n_params": 4000, "quantization": "Q4_1", "n_ctx_train": 9},
    license="mit",
    source="hf:owner/tiny",
    face=FACE,
)
NOTHING_KNOWN = dict.fromkeys(
    (
        *("name", "architecture", "size_bytes", "n_params", "quantization", "n_ctx", "n_ctx_train"),
        *("licence", "origin"),
    )
)


def page(engine: ScriptedEngine | None, **changes: Any) -> Any:
    response = ask(make_app(engine, **changes), "GET", "/page.json")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    return response.json()


def test_a_bundle_shows_its_face() -> None:
    assert page(ScriptedEngine(n_ctx=4096), manifest=MANIFEST, default_max_tokens=100) == {
        "name": "Helper",
        "description": "Helps with things",
        "icon": "data:image/png;base64,AA==",
        "welcome": "Hello!",
        "suggestions": ["Why?", "How?"],
        "has_history": False,
        "history_problem": None,
        "version": "0.1.0",
        "model": {
            "name": "scripted",
            "architecture": "script",
            "size_bytes": 2000,
            "n_params": 1000,
            "quantization": "Q4_1",
            "n_ctx": 4096,
            "n_ctx_train": 8192,
            "licence": "mit",
            "origin": "hf:owner/tiny",
        },
        "modalities": {"vision": False, "audio": False},
        "defaults": {
            "system": "Be brief.",
            "temperature": 0.8,
            "top_k": 40,
            "top_p": 0.95,
            "min_p": 0.05,
            "repeat_penalty": 1.0,
            "max_tokens": 100,
            "seed": None,
        },
        "settings": [described(setting) for setting in ANSWER_SETTINGS],
    }


def test_the_page_learns_the_range_of_each_setting_and_what_a_bundle_leaves_open() -> None:
    settings = {setting.pop("name"): setting for setting in page(None)["settings"]}
    assert list(settings) == ["temperature", "top_k", "top_p", "min_p", "repeat_penalty", "seed", "max_tokens"]
    usual = {"usual_minimum": 0.05, "usual_maximum": 1, "step": 0.05}
    assert settings["top_p"] == {"default": 0.95, "minimum": 0, "maximum": 1, **usual}
    unlimited = {"default": None, "minimum": -1, "maximum": 2**31 - 1}
    assert settings["max_tokens"] == {**unlimited, "usual_minimum": 1, "usual_maximum": None, "step": 1}


def test_a_model_that_sees_says_so_once_it_is_loaded() -> None:
    assert page(ScriptedEngine(media_kinds=(MediaKind.PICTURE,)))["modalities"] == {"vision": True, "audio": False}
    assert page(ScriptedEngine(media_kinds=(MediaKind.SOUND,)))["modalities"] == {"vision": False, "audio": True}
    assert page(None)["modalities"] == {"vision": False, "audio": False}


def test_while_the_model_loads_the_manifest_speaks_for_it() -> None:
    shown = page(None, manifest=MANIFEST)
    assert shown["welcome"] == "Hello!"
    assert shown["model"] == {
        "name": "Tiny",
        "architecture": "llama",
        "size_bytes": 5000,
        "n_params": 4000,
        "quantization": "Q4_1",
        "n_ctx": None,
        "n_ctx_train": 9,
        "licence": "mit",
        "origin": "hf:owner/tiny",
    }


def test_a_model_without_a_bundle_has_a_plain_face() -> None:
    shown = page(None)
    assert (shown["name"], shown["description"], shown["icon"]) == ("scripted", "", None)
    assert (shown["welcome"], shown["suggestions"], shown["defaults"]["system"]) == ("", [], "")
    assert shown["model"] == {**NOTHING_KNOWN, "name": "scripted"}


def test_whether_chats_are_kept_is_told_with_the_reason(tmp_path: Any) -> None:
    def fail() -> ChatStore:
        raise HistoryError("chats can't be kept: the disk is full")

    for history, problem in (
        (History(lambda: ChatStore(tmp_path / "tiny.chats")), None),
        (History(fail), "chats can't be kept: the disk is full"),
    ):
        shown = page(ScriptedEngine(), history=history)
        assert (shown["has_history"], shown["history_problem"]) == (problem is None, problem)
        history.close()


def test_it_is_for_our_own_page_alone() -> None:
    app = make_app(ScriptedEngine(), manifest=MANIFEST, access=Access(origins=("*",)))
    assert ask(app, "GET", "/page.json", headers={"origin": "https://guest.example"}).status_code == 403
    assert ask(app, "GET", "/page.json", headers={"origin": "http://localhost"}).status_code == 200


@pytest.mark.parametrize("path", ["/page.json", "/chats", "/quit"])
def test_without_the_page_there_is_nothing_of_it(path: str) -> None:
    app = make_app(ScriptedEngine(), webclient=None)
    assert ask(app, "GET", path).status_code == 404
