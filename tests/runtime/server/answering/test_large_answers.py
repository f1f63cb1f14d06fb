"""Answers with very many probabilities: written on a thread, and bounded."""

import json
import threading
from typing import Any

import pytest

from runtime.engine.values.events import TokenProbs
from runtime.server.answering import streaming
from tests.fakes import ScriptedEngine
from tests.serving import ask, events_of, make_app

PROBS = TokenProbs(97, b"a", -0.5, tuple((97, b"a", -0.5) for _ in range(100)))
NUM_TOKENS = 10
ASKED: dict[str, dict[str, Any]] = {
    "/completion": {"prompt": "Hi", "n_probs": 100},
    "/v1/completions": {"prompt": "Hi", "logprobs": 100},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}], "logprobs": True, "top_logprobs": 20},
}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> ScriptedEngine:
    monkeypatch.setattr("tests.fakes._probs", lambda *_args, **_named: PROBS, raising=False)
    return ScriptedEngine(["a"] * NUM_TOKENS)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> set[bool]:
    """Whether the objects of probabilities were made on the loop's thread, each time."""
    seen: set[bool] = set()
    made = streaming._made

    def watched(value: object) -> object:
        seen.add(threading.current_thread() is threading.main_thread())
        return made(value)

    monkeypatch.setattr(streaming, "_made", watched)
    return seen


@pytest.mark.parametrize("path", ASKED)
def test_few_are_written_where_they_are_and_many_on_a_thread(
    path: str, engine: ScriptedEngine, threads: set[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ask(make_app(engine), "POST", path, json=ASKED[path])
    assert few.status_code == 200
    assert threads == {True}
    threads.clear()
    monkeypatch.setattr("runtime.server.answering.responses._FEW_PROBS", 10)
    many = ask(make_app(engine), "POST", path, json=ASKED[path])
    assert threads == {False}
    assert logprobs_of(many.json()) == logprobs_of(few.json())


@pytest.mark.parametrize("path", ASKED)
def test_more_than_an_answer_may_have_are_refused(
    path: str, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.server.answering.responses._MAX_PROBS", 10)
    refused = ask(make_app(engine), "POST", path, json=ASKED[path])
    assert refused.status_code == 400
    assert "more than 10 probabilities" in refused.json()["error"]["message"]
    streamed = ask(make_app(engine), "POST", path, json={**ASKED[path], "stream": True})
    assert "more than 10 probabilities" in json.loads(events_of(streamed.text)[-1])["error"]["message"]


def logprobs_of(answer: dict[str, Any]) -> object:
    return answer["choices"][0]["logprobs"] if "choices" in answer else answer["completion_probabilities"]
