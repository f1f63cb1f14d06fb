from typing import Any

import pytest

from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app

LISTED = [
    {"id": 0, "path": "a.gguf", "scale": 1.0, "task_name": "task", "prompt_prefix": ""},
    {"id": 1, "path": "b.gguf", "scale": 0.0, "task_name": "task", "prompt_prefix": ""},
]


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(adapters={"a.gguf": 1.0, "b.gguf": 0.0})


def test_adapters_are_listed_with_their_scales(engine: ScriptedEngine) -> None:
    assert ask(make_app(engine), "GET", "/lora-adapters").json() == LISTED
    assert ask(make_app(ScriptedEngine()), "GET", "/lora-adapters").json() == []


def test_scales_can_be_set_and_those_that_are_not_named_become_0(engine: ScriptedEngine) -> None:
    app = make_app(engine)
    assert ask(app, "POST", "/lora-adapters", json=[{"id": 1, "scale": 0.5}]).json() == {"success": True}
    assert [each["scale"] for each in ask(app, "GET", "/lora-adapters").json()] == [0.0, 0.5]


@pytest.mark.parametrize(
    "body",
    [
        {"id": 0},
        [{"id": 0}],
        [{"id": "0", "scale": 1}],
        [{"id": 7, "scale": 1}],
        [{"id": 0, "scale": True}],
        [{"id": 0, "scale": 1e39}],
        [1],
        5,
    ],
)
def test_what_is_no_list_of_scales_is_a_400(engine: ScriptedEngine, body: Any) -> None:
    assert ask(make_app(engine), "POST", "/lora-adapters", json=body).status_code == 400


@pytest.mark.parametrize("path", ["/completion", "/v1/chat/completions", "/v1/completions"])
def test_a_request_may_bring_its_own(engine: ScriptedEngine, path: str) -> None:
    body = {"prompt": "Hi", "messages": [{"role": "user", "content": "Hi"}], "lora": [{"id": 1, "scale": 2}]}
    assert ask(make_app(engine), "POST", path, json=body).status_code == 200
    assert engine.requests[0].params.lora == ((1, 2.0),)
    assert ask(make_app(engine), "POST", path, json={**body, "lora": "a.gguf"}).status_code == 400
