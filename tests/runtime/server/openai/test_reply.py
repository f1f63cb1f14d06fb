import json
import math
from typing import Any

import pytest

from runtime.engine.values.grammar import Grammar, GrammarKind
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
    assert [delta.get("content", "") for delta in deltas] == [None, "Hello", " world", ""]
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
    sampling = engine.requests[0].params.sampling
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
    assert engine.requests[0].params.max_tokens == max_tokens


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_several_choices_share_a_prompt_and_have_seeds_of_their_own(path: str) -> None:
    engine = ScriptedEngine()
    reply = ask(make_app(engine), "POST", path, json={**CHAT, "prompt": "Hi", "n": 2, "seed": 7}).json()
    assert [choice["index"] for choice in reply["choices"]] == [0, 1]
    assert [request.params.sampling.seed for request in engine.requests] == [7, 8]
    usage = reply["usage"]
    assert usage["prompt_tokens"] == len(engine.requests[0].prompt.tokens)
    assert usage["completion_tokens"] == 4


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_streamed_choices_end_together(path: str) -> None:
    body = {**CHAT, "prompt": "Hi", "n": 2, "stream": True, "stream_options": {"include_usage": True}}
    *data, done = events_of(ask(make_app(ScriptedEngine()), "POST", path, json=body).text)
    assert done == "[DONE]"
    *chunks, last = [json.loads(event) for event in data]
    assert last["usage"]["completion_tokens"] == 4
    reasons = [(c["index"], c["finish_reason"]) for chunk in chunks for c in chunk["choices"]]
    assert sorted(reason for reason in reasons if reason[1]) == [(0, "stop"), (1, "stop")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", "function"),
        ("tool_choice", "required"),
        ("n", 0),
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


def test_a_template_that_writes_bos_does_not_get_it_twice() -> None:
    engine = ScriptedEngine(add_bos=True, chat_template="{{ bos_token }}{{ messages[0].content }}")
    ask(make_app(engine), "POST", "/v1/chat/completions", json=CHAT)
    assert engine.requests[0].prompt.tokens == (BOS, 72, 105)


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


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_response_format_reaches_the_engine_prepared(path: str) -> None:
    engine = ScriptedEngine()
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    body = {**CHAT, "prompt": "Hi", "response_format": wanted}
    assert ask(make_app(engine), "POST", path, json=body).status_code == 200
    grammar = Grammar(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA))
    assert engine.requests[0].params.sampling.grammar == grammar
    assert engine.prepared == [grammar]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("num_top", [0, 2])
def test_logprobs_of_a_chat(stream: bool, num_top: int) -> None:
    body = {**CHAT, "logprobs": True, "top_logprobs": num_top, "stream": stream}
    response = ask(make_app(ScriptedEngine()), "POST", "/v1/chat/completions", json=body)
    replies = [json.loads(event) for event in events_of(response.text)[:-1]] if stream else [response.json()]
    told = [choice["logprobs"] for reply in replies for choice in reply["choices"] if choice["logprobs"]]
    tokens = [token for logprobs in told for token in logprobs["content"]]
    assert [token["token"] for token in tokens] == ["Hello", " world"]
    assert [token["bytes"] for token in tokens] == [list(b"Hello"), list(b" world")]
    assert all(token["logprob"] == -math.log(2) and len(token["top_logprobs"]) == num_top for token in tokens)
    if stream:
        assert [len(logprobs["content"]) for logprobs in told] == [1, 1]


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_of_a_text_completion(stream: bool) -> None:
    body = {"prompt": "Hi", "logprobs": 2, "stream": stream}
    response = ask(make_app(ScriptedEngine()), "POST", "/v1/completions", json=body)
    replies = [json.loads(event) for event in events_of(response.text)[:-1]] if stream else [response.json()]
    told = [reply["choices"][0]["logprobs"] for reply in replies if reply["choices"][0]["logprobs"]]
    together = {key: [value for logprobs in told for value in logprobs[key]] for key in told[0]}
    assert together["tokens"] == ["Hello", " world"]
    assert together["text_offset"] == [0, 5]
    assert together["token_logprobs"] == [-math.log(2)] * 2
    assert [set(top) for top in together["top_logprobs"]] == [{"Hello", "?1"}, {" world", "?1"}]


def test_tokens_of_a_stop_string_have_no_logprobs() -> None:
    body = {**CHAT, "logprobs": True, "stop": " wor"}
    (choice,) = ask(make_app(ScriptedEngine()), "POST", "/v1/chat/completions", json=body).json()["choices"]
    assert choice["message"]["content"] == "Hello"
    assert [token["token"] for token in choice["logprobs"]["content"]] == ["Hello"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": 3}, "logprobs"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
    ],
)
def test_what_asks_wrongly_for_form_or_logprobs_is_refused(fields: dict[str, Any], param: str) -> None:
    response = ask(make_app(ScriptedEngine()), "POST", "/v1/chat/completions", json={**CHAT, **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
