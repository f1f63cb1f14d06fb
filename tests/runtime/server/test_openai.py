import json
from typing import Any

import pytest

from runtime.errors import EngineError
from tests.fakes import BOS, ScriptedEngine
from tests.serving import ask, events_of, make_app

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


def test_a_chat_completion_has_every_key_of_the_schema() -> None:
    engine = ScriptedEngine()
    reply = ask(make_app(engine), "POST", "/v1/chat/completions", json={**CHAT, "model": "any"}).json()
    assert (reply["object"], reply["model"]) == ("chat.completion", "any")
    assert reply["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello world", "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    num_prompt_tokens = len("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert reply["usage"] == {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": 2,
        "total_tokens": num_prompt_tokens + 2,
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    assert reply["timings"]["prompt_ms"] == 500


def test_a_chat_stream() -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    response = ask(make_app(ScriptedEngine()), "POST", "/v1/chat/completions", json=body)
    *data, done = events_of(response.text)
    chunks = [json.loads(event) for event in data]
    assert done == "[DONE]"
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert deltas[0]["role"] == "assistant"
    assert [delta.get("content", "") for delta in deltas] == ["", "Hello", " world", ""]
    assert [choice["finish_reason"] for c in chunks for choice in c["choices"]] == [None, None, None, "stop"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


def test_a_client_with_options_gets_neither_done_nor_a_chunk_without_choices() -> None:
    engine = ScriptedEngine()
    body = {
        **CHAT,
        "stream": True,
        "stream_options": {"include_usage": True},
        "options": {"temperature": 0.25, "seed": 7},
    }
    events = events_of(ask(make_app(engine), "POST", "/v1/chat/completions", json=body).text)
    assert all(json.loads(event)["choices"] for event in events)
    sampling = engine.requests[0].sampling
    assert (sampling.temperature, sampling.seed) == (0.25, 7)


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_completion(stream: bool) -> None:
    body = {"prompt": "Hi", "max_tokens": 1, "stream": stream, "logprobs": None, "echo": False, "best_of": 1}
    response = ask(make_app(ScriptedEngine()), "POST", "/v1/completions", json=body)
    replies = [json.loads(e) for e in events_of(response.text)[:-1]] if stream else [response.json()]
    assert {reply["object"] for reply in replies} == {"text_completion"}
    assert "".join(reply["choices"][0]["text"] for reply in replies) == "Hello"
    assert replies[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("fields", "max_tokens"),
    [
        ({}, 99),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 4, "max_tokens": 5}, 4),
        ({"max_tokens": -1}, 99),
        ({"max_tokens": None}, 99),
    ],
)
def test_the_answer_is_bounded_by_the_request_or_the_default(fields: dict[str, Any], max_tokens: int | None) -> None:
    engine = ScriptedEngine()
    ask(make_app(engine, default_max_tokens=99), "POST", "/v1/chat/completions", json={**CHAT, **fields})
    assert engine.requests[0].max_tokens == max_tokens


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", [{"type": "function"}]),
        ("tool_choice", "required"),
        ("top_logprobs", 3),
        ("n", 2),
        ("logit_bias", {"50": "much"}),
        ("modalities", ["audio"]),
    ],
)
def test_what_is_not_built_is_refused_by_name(name: str, value: object) -> None:
    response = ask(make_app(ScriptedEngine()), "POST", "/v1/chat/completions", json={**CHAT, name: value})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == name


def test_fields_that_ask_for_nothing_are_fine() -> None:
    nothing = {
        "tools": [],
        "tool_choice": "auto",
        "response_format": {"type": "text"},
        "logprobs": False,
        "top_logprobs": None,
        "n": 1,
        "logit_bias": {},
        "user": "me",
        "store": False,
        "stream_options": None,
    }
    assert ask(make_app(ScriptedEngine()), "POST", "/v1/chat/completions", json={**CHAT, **nothing}).status_code == 200


def test_an_image_is_refused() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    body = {"messages": [{"role": "user", "content": [image]}]}
    response = ask(make_app(ScriptedEngine()), "POST", "/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert "image_url" in response.json()["error"]["message"]


def test_a_template_that_writes_bos_does_not_get_it_twice() -> None:
    engine = ScriptedEngine(add_bos=True, chat_template="{{ bos_token }}{{ messages[0].content }}")
    ask(make_app(engine), "POST", "/v1/chat/completions", json=CHAT)
    assert engine.requests[0].prompt_tokens == (BOS, 72, 105)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_failure_in_a_stream_is_an_error_frame_and_the_end(path: str) -> None:
    engine = ScriptedEngine(["Hello"], error=EngineError("broken"))
    response = ask(make_app(engine), "POST", path, json={**CHAT, "prompt": "Hi", "stream": True})
    last = json.loads(events_of(response.text)[-1])
    assert last["error"]["type"] == "server_error"


def test_a_failure_of_a_whole_answer_is_a_500() -> None:
    engine = ScriptedEngine(error=EngineError("broken at /home/someone"))
    response = ask(make_app(engine), "POST", "/v1/chat/completions", json=CHAT)
    assert response.status_code == 500
    assert "/home" not in response.text
