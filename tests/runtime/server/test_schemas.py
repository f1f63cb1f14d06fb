"""Whole answers and every streamed event against OpenAI's official schemas.

Anthropic's are held to theirs where they are tested otherwise, in `test_anthropic`.
"""

import json
from typing import Any

import httpx
import pytest

from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app, named_events_of
from tests.vendor_specs import hold_to_schema

HI = [{"role": "user", "content": "Hi"}]
WEATHER = {"name": "weather", "description": "Tell it", "parameters": {"type": "object"}, "strict": False}
CALL = ['<tool_call>\n{"name": "weather", "argu', 'ments": {"city": "Paris"}}\n</tool_call>']
THOUGHT = ["<think>\nLet me", " see.\n</think>\n\n", "It is ", "fine."]
ANSWERS = {"text": ["Hello", " world"], "call": CALL, "thought": THOUGHT, "nothing": []}
CHATS: dict[str, dict[str, Any]] = {
    "plain": {},
    "several": {"n": 2},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "cut off": {"max_tokens": 1},
    "tools": {"tools": [{"type": "function", "function": WEATHER}]},
    "functions": {"functions": [WEATHER]},
}
COMPLETIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "several": {"prompt": ["Hi", "Ho"], "n": 2},
    "logprobs": {"logprobs": 2},
    "echo": {"echo": True},
    "best": {"best_of": 3},
    "cut off": {"max_tokens": 1},
}
RESPONSES: dict[str, dict[str, Any]] = {
    "plain": {},
    "cut off": {"max_output_tokens": 1},
    "logprobs": {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
    "told again": {
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "user": "me",
        "temperature": 0.5,
        "store": False,
        "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
        "reasoning": {"effort": "low"},
    },
    "tools": {"tools": [{"type": "function", **WEATHER}], "tool_choice": {"type": "function", "name": "weather"}},
    "items": {
        "input": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "message", "role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Hi again"},
        ]
    },
}


def hold(value: object, name: str) -> None:
    hold_to_schema(value, name, protocol="openai")


def post(path: str, *bodies: dict[str, Any], answer: str = "text") -> httpx.Response:
    body = {name: value for each in bodies for name, value in each.items()}
    response = ask(make_app(ScriptedEngine(ANSWERS[answer])), "POST", path, json=body)
    assert response.status_code == 200, response.text
    return response


def cases(table: dict[str, dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fields", table.values(), ids=table)


answers = pytest.mark.parametrize("answer", ANSWERS)


@cases(CHATS)
@answers
def test_chat_completions(fields: dict[str, Any], answer: str) -> None:
    whole = post("/v1/chat/completions", {"messages": HI}, fields, answer=answer).json()
    hold(whole, "CreateChatCompletionResponse")


@cases(CHATS)
@answers
@pytest.mark.parametrize("includes_usage", [False, True])
def test_streamed_chat_completions(fields: dict[str, Any], answer: str, includes_usage: bool) -> None:
    options = {"stream": True, "stream_options": {"include_usage": includes_usage}}
    events = named_events_of(post("/v1/chat/completions", {"messages": HI}, fields, options, answer=answer).text)
    assert events[-1] == (None, "[DONE]")
    for _name, data in events[:-1]:
        hold(json.loads(data), "CreateChatCompletionStreamResponse")


@cases(COMPLETIONS)
def test_completions(fields: dict[str, Any]) -> None:
    hold(post("/v1/completions", {"prompt": "Hi"}, fields).json(), "CreateCompletionResponse")


@cases({name: fields for name, fields in COMPLETIONS.items() if name != "best"})
def test_streamed_completions_but_for_reasons_that_are_not_known_yet(fields: dict[str, Any]) -> None:
    """Whole and streamed completions share a schema, and it has no null for `finish_reason`, which OpenAI sends."""
    events = named_events_of(post("/v1/completions", {"prompt": "Hi", "stream": True}, fields).text)
    assert events[-1] == (None, "[DONE]")
    for _name, data in events[:-1]:
        chunk = json.loads(data)
        for choice in chunk["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "stop"
        hold(chunk, "CreateCompletionResponse")


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(encoding: str) -> None:
    answer = post("/v1/embeddings", {"input": ["a", "b"], "encoding_format": encoding}).json()
    if encoding == "base64":  # which the schema leaves out, though it is what OpenAI's clients ask for
        for each in answer["data"]:
            assert isinstance(each["embedding"], str)
            each["embedding"] = []
    hold(answer, "CreateEmbeddingResponse")


def test_models() -> None:
    app = make_app(ScriptedEngine())
    hold(ask(app, "GET", "/v1/models").json(), "ListModelsResponse")
    hold(ask(app, "GET", "/v1/models/scripted").json(), "Model")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/chat/completions", {"messages": 1}),
        ("POST", "/v1/completions", {}),
        ("POST", "/v1/responses", {"input": {}}),
        ("POST", "/v1/embeddings", {"input": None}),
        ("GET", "/v1/models/other", None),
        ("GET", "/v1/responses/resp_none", None),
        ("GET", "/v1/nothing", None),
    ],
)
def test_errors(method: str, path: str, body: dict[str, Any] | None) -> None:
    response = ask(make_app(ScriptedEngine()), method, path, json=body)
    assert response.status_code >= 400
    hold(response.json(), "ErrorResponse")


@cases(RESPONSES)
@answers
def test_responses(fields: dict[str, Any], answer: str) -> None:
    hold(post("/v1/responses", {"input": "Hi"}, fields, answer=answer).json(), "Response")


@cases(RESPONSES)
@answers
def test_streamed_responses(fields: dict[str, Any], answer: str) -> None:
    events = named_events_of(post("/v1/responses", {"input": "Hi", "stream": True}, fields, answer=answer).text)
    for number, (name, data) in enumerate(events):
        event = json.loads(data)
        assert (event["type"], event["sequence_number"]) == (name, number)
        hold(event, "ResponseStreamEvent")


def test_a_kept_response_and_its_items() -> None:
    app = make_app(ScriptedEngine())
    for fields in RESPONSES.values():
        made = ask(app, "POST", "/v1/responses", json={"input": "Hi", **fields, "store": True}).json()
        kept = ask(app, "GET", f"/v1/responses/{made['id']}").json()
        assert kept == made
        items = ask(app, "GET", f"/v1/responses/{made['id']}/input_items").json()
        hold(items, "ResponseItemList")
