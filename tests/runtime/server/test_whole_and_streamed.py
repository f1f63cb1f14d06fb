"""A streamed answer adds up to the whole one, for every client, in whatever pieces the model writes it."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import EOS, ScriptedEngine
from tests.serving import ask, events_of, make_app, named_events_of


class Told(NamedTuple):
    """What a client learns of an answer. Calls are names with arguments, tokens those that come with probabilities."""

    text: str
    reasoning: str
    calls: list[tuple[str, str]]
    tokens: list[Any]
    reason: Any


MESSAGES = [{"role": "user", "content": "Hi"}]
FUNCTION = {"name": "get", "parameters": {"type": "object", "properties": {"x": {"type": "string"}}}}
CALL = '<tool_call>\n{"name": "get", "arguments": {"x": "é"}}\n</tool_call>'
STOPS = ["END"]


def call(written: str) -> str:
    """Return a call's arguments, nothing where they were cut off: not every client is told of those."""
    try:
        return json.dumps(json.loads(written))
    except ValueError:
        return ""


# -- each client: its path and body, its whole answer, and its stream --------------------------------------------------


def native_whole(answer: Any) -> Told:
    probs = [each["id"] for each in answer.get("completion_probabilities", ())]
    return Told(answer["content"], "", [], [probs, answer["tokens"]], (answer["stop_type"], answer["stopping_word"]))


def native_stream(stream: str) -> Told:
    events = [json.loads(each) for each in events_of(stream)]
    probs = [each["id"] for event in events for each in event.get("completion_probabilities", ())]
    tokens = [token for event in events for token in event["tokens"]]
    reason = events[-1]["stop_type"], events[-1]["stopping_word"]
    return Told("".join(event["content"] for event in events), "", [], [probs, tokens], reason)


def text_whole(answer: Any) -> Told:
    (choice,) = answer["choices"]
    logprobs = choice["logprobs"]
    tokens = [logprobs["tokens"], logprobs["text_offset"], logprobs["token_logprobs"], logprobs["top_logprobs"]]
    return Told(choice["text"], "", [], tokens, choice["finish_reason"])


def text_stream(stream: str) -> Told:
    *events, done = events_of(stream)
    assert done == "[DONE]"
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    names = ("tokens", "text_offset", "token_logprobs", "top_logprobs")
    tokens = [[each for choice in choices if choice["logprobs"] for each in choice["logprobs"][name]] for name in names]
    return Told("".join(choice["text"] for choice in choices), "", [], tokens, choices[-1]["finish_reason"])


def chat_whole(answer: Any) -> Told:
    (choice,) = answer["choices"]
    message = choice["message"]
    calls = [each["function"] for each in message.get("tool_calls", ())]
    return Told(
        message["content"] or "",
        message.get("reasoning_content", ""),
        [(each["name"], each["arguments"]) for each in calls],
        choice["logprobs"]["content"],
        choice["finish_reason"],
    )


def chat_stream(stream: str) -> Told:
    *events, done = events_of(stream)
    assert done == "[DONE]"
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    calls: dict[int, list[str]] = {}
    for delta in (each for choice in choices for each in choice["delta"].get("tool_calls", ())):
        calls.setdefault(delta["index"], ["", ""])
        calls[delta["index"]][0] += delta["function"].get("name", "")
        calls[delta["index"]][1] += delta["function"]["arguments"]
    return Told(
        "".join(choice["delta"].get("content") or "" for choice in choices),
        "".join(choice["delta"].get("reasoning_content", "") for choice in choices),
        [(name, arguments) for name, arguments in calls.values()],
        [each for choice in choices if choice["logprobs"] for each in choice["logprobs"]["content"]],
        choices[-1]["finish_reason"],
    )


def responses_whole(answer: Any) -> Told:
    parts = [(item["type"], part) for item in answer["output"] for part in item.get("content", ())]
    calls = [item for item in answer["output"] if item["type"] == "function_call"]
    return Told(
        "".join(part["text"] for kind, part in parts if kind == "message"),
        "".join(part["text"] for kind, part in parts if kind == "reasoning"),
        [(each["name"], each["arguments"]) for each in calls],
        [each for kind, part in parts if kind == "message" for each in part["logprobs"]],
        (answer["status"], answer["incomplete_details"]),
    )


def responses_stream(stream: str) -> Told:
    events = [json.loads(data) for _name, data in named_events_of(stream)]

    def deltas(kind: str) -> list[Any]:
        return [event for event in events if event["type"] == f"response.{kind}.delta"]

    calls = {
        event["output_index"]: [event["item"]["name"], ""]
        for event in events
        if event["type"] == "response.output_item.added" and event["item"]["type"] == "function_call"
    }
    for event in deltas("function_call_arguments"):
        calls[event["output_index"]][1] += event["delta"]
    last = events[-1]["response"]
    return Told(
        "".join(event["delta"] for event in deltas("output_text")),
        "".join(event["delta"] for event in deltas("reasoning_text")),
        [(name, arguments) for name, arguments in calls.values()],
        [each for event in deltas("output_text") for each in event["logprobs"]],
        (last["status"], last["incomplete_details"]),
    )


def anthropic_whole(answer: Any) -> Told:
    def of_kind(kind: str) -> list[Any]:
        return [block for block in answer["content"] if block["type"] == kind]

    return Told(
        "".join(block["text"] for block in of_kind("text")),
        "".join(block["thinking"] for block in of_kind("thinking")),
        [(block["name"], json.dumps(block["input"]) if block["input"] else "") for block in of_kind("tool_use")],
        [block["signature"] for block in of_kind("thinking")],
        (answer["stop_reason"], answer["stop_sequence"]),
    )


def anthropic_stream(stream: str) -> Told:
    events = [json.loads(data) for _name, data in named_events_of(stream)]
    begun = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    deltas = [(event["index"], event["delta"]) for event in events if event["type"] == "content_block_delta"]
    written = [
        "".join(delta.get("partial_json", "") for place, delta in deltas if place == index)
        for index in range(len(begun))
    ]
    (end,) = (event["delta"] for event in events if event["type"] == "message_delta")
    return Told(
        "".join(delta.get("text", "") for _index, delta in deltas),
        "".join(delta.get("thinking", "") for _index, delta in deltas),
        [(block["name"], call(written[index])) for index, block in enumerate(begun) if block["type"] == "tool_use"],
        [delta["signature"] for _index, delta in deltas if "signature" in delta],
        (end["stop_reason"], end["stop_sequence"]),
    )


def ollama_whole(answer: Any) -> Told:
    message = answer["message"]
    calls = [each["function"] for each in message.get("tool_calls", ())]
    return Told(
        message["content"],
        message.get("thinking", ""),
        [(f"{each['index']} {each['name']}", json.dumps(each["arguments"])) for each in calls],
        answer.get("logprobs", []),
        answer["done_reason"],
    )


def ollama_stream(stream: str) -> Told:
    told = [json.loads(line) for line in stream.splitlines()]
    parts = [ollama_whole({"done_reason": None, **each}) for each in told]
    return Told(
        "".join(part.text for part in parts),
        "".join(part.reasoning for part in parts),
        [each for part in parts for each in part.calls],
        [each for part in parts for each in part.tokens],
        parts[-1].reason,
    )


Client = tuple[str, dict[str, Any], Callable[[Any], Told], Callable[[str], Told]]
TOOLS = [{"type": "function", "function": FUNCTION}]
CLIENTS: dict[str, Client] = {
    "llama.cpp": (
        "/completion",
        {"prompt": "Hi", "stop": STOPS, "n_probs": 2, "return_tokens": True},
        native_whole,
        native_stream,
    ),
    "OpenAI's texts": (
        "/v1/completions",
        {"prompt": "Hi", "stop": STOPS, "logprobs": 2, "echo": True},
        text_whole,
        text_stream,
    ),
    "OpenAI's chat": (
        "/v1/chat/completions",
        {"messages": MESSAGES, "stop": STOPS, "logprobs": True, "top_logprobs": 2, "tools": TOOLS},
        chat_whole,
        chat_stream,
    ),
    "OpenAI's responses": (
        "/v1/responses",
        {"input": "Hi", "stop": STOPS, "top_logprobs": 2, "tools": [{"type": "function", **FUNCTION}]},
        responses_whole,
        responses_stream,
    ),
    "Anthropic": (
        "/v1/messages",
        {
            "messages": MESSAGES,
            "stop_sequences": STOPS,
            "thinking": {"type": "enabled"},
            "tools": [{"name": "get", "input_schema": FUNCTION["parameters"]}],
        },
        anthropic_whole,
        anthropic_stream,
    ),
    "Ollama": (
        "/api/chat",
        {"messages": MESSAGES, "options": {"stop": STOPS}, "logprobs": True, "top_logprobs": 2, "tools": TOOLS},
        ollama_whole,
        ollama_stream,
    ),
}


@st.composite
def pieces(draw: st.DrawFn) -> list[str]:
    """An answer with or without thinking, text and calls, whole or not, cut anywhere, now and then into nothing."""
    thinking = draw(st.sampled_from(["", "<think>\nHm, well.\n</think>\n\n", "<think>Hm", "<think></think>"]))
    text = draw(st.text("aé \n<E", max_size=8) | st.sampled_from(["Hello END more", "x EN", "<tool", "a </think> b"]))
    calls = draw(st.sampled_from(["", CALL, f"{CALL}\n{CALL}", CALL[:40], f"{CALL}END"]))
    rest, cut = thinking + text + calls, []
    while rest:
        length = draw(st.integers(0, 12))
        cut.append(rest[:length])
        rest = rest[length:]
    return cut


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
@given(pieces=pieces(), max_tokens=st.none() | st.integers(1, 20), has_end_token=st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_stream_adds_up_to_the_whole(
    client: Client, pieces: list[str], max_tokens: int | None, has_end_token: bool
) -> None:
    path, body, read_whole, read_stream = client

    engine = ScriptedEngine(pieces)
    engine.end_token = EOS if has_end_token else None
    app = make_app(engine, default_max_tokens=max_tokens)
    streamed, whole = (ask(app, "POST", path, json={**body, "stream": stream}) for stream in (True, False))
    assert (streamed.status_code, whole.status_code) == (200, 200), (streamed.text, whole.text)
    assert read_stream(streamed.text) == read_whole(whole.json())
