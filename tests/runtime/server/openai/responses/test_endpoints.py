"""OpenAI's responses: what the model is asked, what comes back, and how one goes on from another."""

import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from runtime.engine.values.grammar import GrammarKind
from runtime.errors import EngineError
from runtime.server.openai.responses.store import ResponseStore, StoredResponse
from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app, named_events_of
from tests.vendor_specs import hold_to_schema

PATH = "/v1/responses"
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "Tell the weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}
CALL = ['<tool_call>\n{"name": "weather", "argu', 'ments": {"city": "Par', 'is"}}\n</tool_call>']
THOUGHT = ["<think>\nLet me", " see.\n</think>\n\n", "It is ", "fine."]


def respond(engine: ScriptedEngine, **body: Any) -> httpx.Response:
    return ask(make_app(engine), "POST", PATH, json={"input": "Hi", **body})


def prompt_of(engine: ScriptedEngine) -> str:
    return engine.vocabulary.detokenize(engine.requests[-1].prompt.tokens)


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    events = [json.loads(data) for _name, data in named_events_of(response.text)]
    for event in events:
        hold_to_schema(event, "ResponseStreamEvent", protocol="openai")
    return events


def both_ways(pieces: Sequence[str], **body: Any) -> dict[str, Any]:
    """The response, after checking that a stream adds up to the same but for ids and times."""
    whole: dict[str, Any] = respond(ScriptedEngine(pieces), **body).json()
    hold_to_schema(whole, "Response", protocol="openai")
    streamed = events_of(respond(ScriptedEngine(pieces), stream=True, **body))[-1]["response"]
    assert without_ids(streamed) == without_ids(whole)
    return whole


def without_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [without_ids(each) for each in value]
    if not isinstance(value, dict):
        return value
    gone = {"id", "call_id", "created_at", "completed_at"}
    return {name: without_ids(each) for name, each in value.items() if name not in gone}


# -- what comes back --------------------------------------------------------------------------------------------------


def test_a_message() -> None:
    response = both_ways(["Hello", " world"])
    (message,) = response["output"]
    assert (message["type"], message["role"], message["status"]) == ("message", "assistant", "completed")
    assert message["content"] == [{"type": "output_text", "text": "Hello world", "annotations": [], "logprobs": []}]
    assert (response["status"], response["usage"]["output_tokens"]) == ("completed", 2)
    assert response["completed_at"] >= response["created_at"]


def test_the_events_of_a_message() -> None:
    events = events_of(respond(ScriptedEngine(), stream=True))
    assert [event["type"].removeprefix("response.") for event in events] == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    item_id = events[2]["item"]["id"]
    assert {event["item_id"] for event in events if "item_id" in event} == {item_id}
    assert [event["delta"] for event in events if "delta" in event] == ["Hello", " world"]


def test_an_answer_of_nothing_has_an_empty_message() -> None:
    (message,) = both_ways([])["output"]
    assert message["content"][0]["text"] == ""


def test_what_was_cut_off_is_incomplete() -> None:
    response = both_ways(["Hello", " world"], max_output_tokens=1)
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert response["output"][0]["status"] == "incomplete"
    assert response["completed_at"] is None
    events = events_of(respond(ScriptedEngine(), stream=True, max_output_tokens=1))
    assert events[-1]["type"] == "response.incomplete"


def test_thinking_is_an_item_of_its_own() -> None:
    response = both_ways(THOUGHT)
    thinking, message = response["output"]
    assert (thinking["type"], thinking["content"]) == ("reasoning", [{"type": "reasoning_text", "text": "Let me see."}])
    assert message["content"][0]["text"] == "It is fine."
    assert response["usage"]["output_tokens_details"]["reasoning_tokens"] == 2


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "name": "weather"}])
def test_a_call(choice: object) -> None:
    response = both_ways(CALL, tools=[WEATHER], tool_choice=choice)
    (call,) = response["output"]
    assert (call["type"], call["name"], call["status"]) == ("function_call", "weather", "completed")
    assert json.loads(call["arguments"]) == {"city": "Paris"}
    assert call["call_id"]
    assert response["tools"] == [WEATHER]
    assert response["tool_choice"] == choice


def test_the_events_of_a_call() -> None:
    events = events_of(respond(ScriptedEngine(["Let me see. ", *CALL]), tools=[WEATHER], stream=True))
    told = [event for event in events if event.get("output_index") == 1]
    assert [event["type"].removeprefix("response.") for event in told] == [
        "output_item.added",
        *["function_call_arguments.delta"] * (len(told) - 3),
        *("function_call_arguments.done", "output_item.done"),
    ]
    arguments = "".join(event.get("delta", "") for event in told)
    assert told[-2]["arguments"] == told[-1]["item"]["arguments"] == arguments
    assert json.loads(arguments) == {"city": "Paris"}


def test_a_call_that_is_cut_off_is_incomplete_and_nothing_to_go_on_from() -> None:
    app = make_app(ScriptedEngine(CALL))
    body = {"input": "Hi", "tools": [WEATHER], "max_output_tokens": 2}
    response = ask(app, "POST", PATH, json=body).json()
    assert [item["status"] for item in response["output"]] == ["incomplete"]
    again = ask(app, "POST", PATH, json={"input": "And?", "previous_response_id": response["id"]})
    assert again.status_code == 200


def test_a_call_that_a_stop_string_ended_is_incomplete_too() -> None:
    (call,) = both_ways(CALL, tools=[WEATHER], stop="Par")["output"]
    assert call["status"] == "incomplete"


@pytest.mark.parametrize("num_top", [0, 2])
def test_logprobs(num_top: int) -> None:
    response = both_ways(THOUGHT, include=["message.output_text.logprobs"], top_logprobs=num_top)
    told = response["output"][1]["content"][0]["logprobs"]
    assert [each["token"] for each in told] == ["It is ", "fine."]
    assert {len(each["top_logprobs"]) for each in told} == {num_top}


def test_progress_and_timings_for_clients_of_llama_server() -> None:
    wishes = {"stream": True, "return_progress": True, "timings_per_token": True}
    events = events_of(respond(ScriptedEngine(), **wishes))
    told = [event["prompt_progress"] for event in events if "prompt_progress" in event]
    assert told[-1]["processed"] == told[-1]["total"] > 0
    assert all("timings" in event for event in events if event["type"] == "response.output_text.delta")
    assert "timings" in events[-1]


def test_a_failure_in_a_stream_is_told_and_ends_it() -> None:
    events = events_of(respond(ScriptedEngine(["Hello"], error=EngineError("broken at /home/someone")), stream=True))
    error, failed = events[-2:]
    assert (error["type"], failed["type"]) == ("error", "response.failed")
    assert failed["response"]["error"]["code"] == "server_error"
    assert "/home" not in json.dumps(events)


def test_logprobs_of_marks_are_nobodys() -> None:
    response = both_ways(["<think>", "</think>", "Fine", "."], include=["message.output_text.logprobs"])
    assert [each["token"] for each in response["output"][-1]["content"][0]["logprobs"]] == ["Fine", "."]


# -- what the model is asked ------------------------------------------------------------------------------------------


def test_items_of_a_turn_become_one_message() -> None:
    engine = ScriptedEngine()
    items = [
        {"role": "user", "content": "Weather?"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Paris"}'},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": '{"city": "Rome"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "fine"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "hot"}]},
    ]
    respond(engine, input=items, instructions="Be brief.", tools=[WEATHER])
    prompt = prompt_of(engine)
    turns = prompt.split("<|im_start|>")[1:]
    assert [turn.split("\n")[0] for turn in turns] == ["system", "user", "assistant", "user", "assistant"]
    assert turns[0].startswith("system\nBe brief.")
    assert all(word in turns[2] for word in ("Let me see.", "Paris", "Rome"))
    assert turns[3].index("fine") < turns[3].index("hot")


def test_a_format_reaches_the_engine() -> None:
    engine = ScriptedEngine()
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    respond(engine, text={"format": {"type": "json_schema", "name": "x", "schema": schema, "strict": True}})
    grammar = engine.requests[0].params.sampling.grammar
    assert grammar is not None
    assert (grammar.kind, json.loads(grammar.source)) == (GrammarKind.JSON_SCHEMA, schema)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].image_url"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"type": "function_call", "name": "x", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call", "call_id": "1", "name": "x", "arguments": "{"}]}, "input[0].arguments"),
        ({"previous_response_id": "resp_none"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{**WEATHER, "parameters": 5}]}, "tools[0].parameters"),
        ({"tools": 5}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "other"}, "tools": [WEATHER]}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": 5}}}, "text.format.schema"),
        ({"text": 5}, "text"),
        ({"reasoning": {"effort": 5}}, "effort"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"include": "all"}, "include"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"user": 5}, "user"),
    ],
)
def test_what_is_asked_wrongly_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    response = respond(ScriptedEngine(), **fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_tokens_are_counted_as_they_are_computed() -> None:
    app = make_app(ScriptedEngine())
    body = {"input": "Hi", "instructions": "Be brief.", "tools": [WEATHER]}
    counted = ask(app, "POST", f"{PATH}/input_tokens", json=body).json()
    assert counted["input_tokens"] == ask(app, "POST", PATH, json=body).json()["usage"]["input_tokens"]


# -- one after another ------------------------------------------------------------------------------------------------


def test_a_response_goes_on_from_another_without_its_instructions() -> None:
    engine = ScriptedEngine()
    app = make_app(engine)
    first = ask(app, "POST", PATH, json={"input": "Hi", "instructions": "Be brief."}).json()
    body = {"input": "And now?", "previous_response_id": first["id"], "instructions": "Be long."}
    second = ask(app, "POST", PATH, json=body).json()
    assert second["previous_response_id"] == first["id"]
    third = {"input": "And then?", "previous_response_id": second["id"], "stream": True}
    ask(app, "POST", PATH, json=third)
    assert (
        prompt_of(engine)
        == "".join(
            f"<|im_start|>{role}\n{text}<|im_end|>\n"
            for role, text in [
                *(("user", "Hi"), ("assistant", "Hello world")),
                *(("user", "And now?"), ("assistant", "Hello world"), ("user", "And then?")),
            ]
        )
        + "<|im_start|>assistant\n"
    )


def test_a_result_goes_on_from_the_response_that_asked_for_it() -> None:
    engine = ScriptedEngine(CALL)
    app = make_app(engine)
    first = ask(app, "POST", PATH, json={"input": "Hi", "tools": [WEATHER]}).json()
    result = {"type": "function_call_output", "call_id": first["output"][0]["call_id"], "output": "fine"}
    body = {"input": [result], "tools": [WEATHER], "previous_response_id": first["id"]}
    assert ask(app, "POST", PATH, json=body).status_code == 200
    assert "Paris" in prompt_of(engine)
    assert "fine" in prompt_of(engine)


def test_an_item_can_be_referred_to() -> None:
    engine = ScriptedEngine()
    app = make_app(engine)
    first = ask(app, "POST", PATH, json={"input": "Hi"}).json()
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    items = [{"role": "user", "content": "Hi"}, reference, {"role": "user", "content": "And?"}]
    ask(app, "POST", PATH, json={"input": items})
    assert "<|im_start|>assistant\nHello world<|im_end|>" in prompt_of(engine)


def test_a_response_is_kept_unless_it_is_not_to_be_and_until_it_is_deleted() -> None:
    app = make_app(ScriptedEngine())
    unkept = ask(app, "POST", PATH, json={"input": "Hi", "store": False}).json()["id"]
    kept = ask(app, "POST", PATH, json={"input": "Hi"}).json()["id"]
    assert ask(app, "GET", f"{PATH}/{unkept}").status_code == 404
    assert ask(app, "GET", f"{PATH}/{kept}").json()["id"] == kept
    deleted = ask(app, "DELETE", f"{PATH}/{kept}").json()
    assert deleted == {"id": kept, "object": "response", "deleted": True}
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/input_items")):
        assert ask(app, method, f"{PATH}/{kept}{path}").status_code == 404


def test_items_come_newest_first_unless_asked_for_otherwise() -> None:
    app = make_app(ScriptedEngine())
    items = [{"role": "user", "content": "a", "id": "item_a"}, {"role": "user", "content": "b", "id": "item_b"}]
    kept = ask(app, "POST", PATH, json={"input": items}).json()["id"]
    for query, expected in (("", ["item_b", "item_a"]), ("?order=asc", ["item_a", "item_b"])):
        listed = ask(app, "GET", f"{PATH}/{kept}/input_items{query}").json()
        assert [item["id"] for item in listed["data"]] == expected
        assert (listed["first_id"], listed["last_id"]) == (expected[0], expected[-1])
    listed = ask(app, "GET", f"{PATH}/{kept}/input_items?limit=1&after=item_b").json()
    assert [item["id"] for item in listed["data"]] == ["item_a"]
    refused = ask(app, "GET", f"{PATH}/{kept}/input_items?limit=0")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "limit")


LONG = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "a" * 300},
    {"role": "assistant", "content": "b" * 300},
    {"role": "user", "content": "And now?"},
]


def test_the_oldest_turns_of_an_input_that_is_too_long_can_be_left_out() -> None:
    engine = ScriptedEngine(n_ctx=400)
    app = make_app(engine)
    response = ask(app, "POST", PATH, json={"input": LONG, "truncation": "auto"}).json()
    assert (response["status"], response["truncation"]) == ("completed", "auto")
    expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n"
    assert engine.vocabulary.detokenize(engine.requests[-1].prompt.tokens) == expected
    counted = ask(app, "POST", f"{PATH}/input_tokens", json={"input": LONG, "truncation": "auto"}).json()
    assert counted["input_tokens"] == len(expected)
    items = ask(app, "GET", f"{PATH}/{response['id']}/input_items").json()["data"]
    assert len(items) == 4  # they are kept, and a larger context would take them


def test_what_fits_is_left_whole() -> None:
    engine = ScriptedEngine(n_ctx=800)
    response = ask(make_app(engine), "POST", PATH, json={"input": LONG, "truncation": "auto"})
    assert response.status_code == 200
    assert "aaa" in engine.vocabulary.detokenize(engine.requests[-1].prompt.tokens)


@pytest.mark.parametrize(
    ("fields", "param"),
    [({}, None), ({"truncation": "disabled"}, None), ({"truncation": "middle"}, "truncation")],
)
def test_an_input_that_is_too_long_is_refused_unless_asked_for_otherwise(
    fields: dict[str, str], param: str | None
) -> None:
    refused = ask(make_app(ScriptedEngine(n_ctx=400)), "POST", PATH, json={"input": LONG, **fields})
    assert refused.status_code == 400
    assert param is None or refused.json()["error"]["param"] == param


def test_a_last_turn_that_is_too_long_is_refused_all_the_same() -> None:
    asked = {"input": [*LONG, {"role": "user", "content": "c" * 900}], "truncation": "auto"}
    assert ask(make_app(ScriptedEngine(n_ctx=400)), "POST", PATH, json=asked).status_code == 400


def test_a_kept_response_is_not_streamed_again() -> None:
    app = make_app(ScriptedEngine())
    kept = ask(app, "POST", PATH, json={"input": "Hi"}).json()["id"]
    refused = ask(app, "GET", f"{PATH}/{kept}?stream=true")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "stream")


def stored(name: str, num_bytes: int) -> StoredResponse:
    return StoredResponse({"id": name, "output": [{"id": f"item of {name}"}]}, (), (), num_bytes)


def test_the_oldest_responses_make_room() -> None:
    by_count, by_size = ResponseStore(max_responses=2), ResponseStore(max_bytes=10)
    for name in "abc":
        by_count.put(stored(name, 1))
        by_size.put(stored(name, 5))
    for store in (by_count, by_size):
        assert [name for name in "abc" if store.get(name)] == ["b", "c"]
        assert store.find_item("item of a") is None
        assert store.find_item("item of b") is not None
        store.remove("b")
        store.put(stored("d", 5))
        assert [name for name in "abcd" if store.get(name)] == ["c", "d"]


def test_what_is_larger_than_the_store_is_not_kept() -> None:
    store = ResponseStore(max_bytes=10)
    store.put(stored("a", 11))
    assert store.get("a") is None
    store.put(stored("b", 10))
    assert store.get("b") is not None
