"""Tools and thinking in Anthropic's dialect; `test_anthropic` has the rest."""

import json
from typing import Any

import pytest

from runtime.engine.values.grammar import GrammarKind
from tests.fakes import ScriptedEngine
from tests.runtime.server.anthropic.test_messages import asked, kinds, prompt_of, streamed, whole
from tests.vendor_specs import hold_to_schema

WEATHER = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TIME = {"name": "time", "input_schema": {"type": "object", "properties": {}}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'
TWO_CALLS = CALL + '\n<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'
THOUGHT = "<think>\nHm, Köln.\n</think>\n\n"


def pieces(text: str) -> list[str]:
    """A text as tokens of three characters, so that marks and arguments come in parts."""
    return [text[begin : begin + 3] for begin in range(0, len(text), 3)]


def put_together(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the blocks that a stream's events add up to."""
    blocks: list[dict[str, Any]] = []
    arguments = ""
    for event in events:
        match event["type"], event.get("delta", {}).get("type"):
            case "content_block_start", _:
                assert event["index"] == len(blocks)
                blocks.append(dict(event["content_block"]))
                arguments = ""
            case _, "text_delta":
                blocks[event["index"]]["text"] += event["delta"]["text"]
            case _, "thinking_delta":
                blocks[event["index"]]["thinking"] += event["delta"]["thinking"]
            case _, "signature_delta":
                blocks[event["index"]]["signature"] += event["delta"]["signature"]
            case _, "input_json_delta":
                arguments += event["delta"]["partial_json"]
            case "content_block_stop", _ if blocks[-1]["type"] == "tool_use" and arguments:
                blocks[-1]["input"] = json.loads(arguments)
    return blocks


def answered(text: str, **fields: Any) -> tuple[list[dict[str, Any]], str]:
    """Return the blocks and the reason for the end of an answer, the same whole and streamed."""
    message = whole(ScriptedEngine(pieces(text)), **fields)
    events = streamed(ScriptedEngine(pieces(text)), **fields)
    blocks, streamed_blocks = message["content"], put_together(events)
    for block in (*blocks, *streamed_blocks):
        if block["type"] == "tool_use":
            assert block.pop("id").startswith("call_")
    assert streamed_blocks == blocks
    assert events[-2]["delta"]["stop_reason"] == message["stop_reason"]
    return blocks, message["stop_reason"]


def text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "citations": None}


def call_block(name: str, **arguments: object) -> dict[str, Any]:
    return {"type": "tool_use", "name": name, "input": arguments, "caller": {"type": "direct"}}


# -- answers ----------------------------------------------------------------------------------------------------------


def test_a_call_is_a_block_after_the_text() -> None:
    blocks, reason = answered(f"Let me see. {CALL}", tools=[WEATHER])
    assert blocks == [text_block("Let me see."), call_block("weather", city="Köln")]
    assert reason == "tool_use"


def test_several_calls_are_several_blocks() -> None:
    blocks, reason = answered(TWO_CALLS, tools=[WEATHER, TIME])
    assert blocks == [call_block("weather", city="Köln"), call_block("time")]
    assert reason == "tool_use"


def test_arguments_come_as_they_are_written() -> None:
    events = streamed(ScriptedEngine(pieces(CALL)), tools=[WEATHER])
    assert kinds(events).count("content_block_delta") > 3
    assert events[1]["content_block"]["input"] == {}


def test_without_tools_a_call_is_only_text() -> None:
    assert answered(CALL) == ([text_block(CALL)], "end_turn")
    blocks, _reason = answered(CALL, tools=[WEATHER], tool_choice={"type": "none"})
    assert blocks == [text_block(CALL)]


def test_a_call_that_is_cut_off_has_no_arguments() -> None:
    message = whole(ScriptedEngine(pieces(CALL)), tools=[WEATHER], max_tokens=16)
    assert (message["content"][0]["input"], message["stop_reason"]) == ({}, "max_tokens")


def test_thinking_is_a_block_with_a_signature_when_it_is_asked_for() -> None:
    for config in ({"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}):
        (thinking, text), reason = answered(THOUGHT + "Hello", thinking=config)
        assert (thinking["type"], thinking["thinking"]) == ("thinking", "Hm, Köln.")
        assert thinking["signature"]
        assert (text, reason) == (text_block("Hello"), "end_turn")


def test_thinking_may_be_left_out_but_for_its_signature() -> None:
    (shown, _), _ = answered(THOUGHT + "Hello", thinking={"type": "adaptive"})
    (omitted, _), _ = answered(THOUGHT + "Hello", thinking={"type": "adaptive", "display": "omitted"})
    assert omitted == {**shown, "thinking": ""}


@pytest.mark.parametrize("fields", [{}, {"thinking": {"type": "disabled"}}], ids=["absent", "disabled"])
def test_thinking_that_nobody_asked_for_is_nobodys_answer(fields: dict[str, Any]) -> None:
    assert answered(THOUGHT + "Hello", **fields)[0] == [text_block("Hello")]


def test_a_call_follows_the_thinking() -> None:
    blocks, reason = answered(THOUGHT + CALL, tools=[WEATHER], thinking={"type": "adaptive"})
    assert [block["type"] for block in blocks] == ["thinking", "tool_use"]
    assert reason == "tool_use"


# -- what is asked ----------------------------------------------------------------------------------------------------


def test_the_model_is_told_of_the_tools() -> None:
    prompt = prompt_of(ScriptedEngine(), tools=[WEATHER], system="Be kind.")
    assert "Be kind." in prompt
    assert "Tells the weather." in prompt
    assert '"city"' in prompt


@pytest.mark.parametrize(
    ("choice", "names", "is_lazy"),
    [
        ({"type": "auto"}, {"weather", "time"}, True),
        ({"type": "any"}, {"weather", "time"}, False),
        ({"type": "tool", "name": "time"}, {"time"}, False),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_the_choice_is_held_to_by_a_grammar(choice: dict[str, Any], names: set[str], is_lazy: bool) -> None:
    engine = ScriptedEngine()
    whole(engine, tools=[WEATHER, TIME], tool_choice=choice)
    grammar = engine.requests[0].params.sampling.grammar
    assert grammar is not None
    assert grammar.kind is GrammarKind.LARK
    assert {name for name in ("weather", "time") if name in grammar.source} == names
    assert bool(grammar.triggers or grammar.trigger_tokens) is is_lazy


def test_a_choice_of_none_leaves_the_answer_free() -> None:
    engine = ScriptedEngine()
    whole(engine, tools=[WEATHER], tool_choice={"type": "none"})
    assert engine.requests[0].params.sampling.grammar is None


def test_calls_may_be_kept_to_one() -> None:
    def grammar(**choice: object) -> str:
        engine = ScriptedEngine()
        whole(engine, tools=[WEATHER], tool_choice={"type": "any", **choice})
        assert engine.requests[0].params.sampling.grammar is not None
        return engine.requests[0].params.sampling.grammar.source

    assert grammar() != grammar(disable_parallel_tool_use=True)


CHAT = [
    {"role": "user", "content": "The weather?"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Where?", "signature": "x"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Köln"}},
            {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "Rain."}]},
            {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": True, "content": "no city"},
            {"type": "tool_result", "tool_use_id": "toolu_3"},
            {"type": "text", "text": "Well?"},
        ],
    },
]
# One that writes everything down that a message has.
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}|{{ m.content }}|{{ m.reasoning_content }}|"
    "{% for c in m.tool_calls or [] %}{{ c.id }}={{ c.function.name }}{{ c.function.arguments | tojson }};{% endfor %}|"
    "{{ m.tool_call_id }}]{% endfor %}"
)


def test_earlier_calls_and_their_results_reach_the_template() -> None:
    prompt = prompt_of(ScriptedEngine(chat_template=TEMPLATE), messages=CHAT, thinking={"type": "adaptive"})
    user, assistant, *results, last = prompt.removeprefix("[").removesuffix("]").split("][")
    assert user.startswith("user|The weather?|")
    _role, text, thinking, calls, _ = assistant.split("|")
    assert (text, thinking) == ("I look.", "Where?")
    (first, first_call), (second, second_call) = (call.split("=") for call in calls.removesuffix(";").split(";"))
    assert (first_call, second_call) == ('weather{"city": "Köln"}', "weather{}")
    assert [result.split("|")[::4] for result in results[:2]] == [["tool", first], ["tool", second]]
    assert [result.split("|")[1] for result in results] == ["Rain.", "Error: no city", ""]
    assert last.startswith("user|Well?|")


@pytest.mark.parametrize(("effort", "level"), [("low", "low"), ("max", "high")])
def test_how_much_to_think_reaches_the_template(effort: str, level: str) -> None:
    engine = ScriptedEngine(chat_template="{{ messages[0].content }}|{{ reasoning_effort }}|{{ enable_thinking }}")
    config = {"output_config": {"effort": effort}, "thinking": {"type": "adaptive"}}
    assert prompt_of(engine, **config) == f"Hi|{level}|True"


def test_a_conversation_is_not_kept_and_the_client_can_tell() -> None:
    response = asked(ScriptedEngine(), thread={"type": "create"})
    hold_to_schema(response.json(), "ErrorResponse", protocol="anthropic")
    assert (response.status_code, response.json()["error"]["details"]) == (
        400,
        {"error_code": "thread_unsupported_request"},
    )
    assert asked(ScriptedEngine(), thread=None).status_code == 200


def test_tools_count_among_the_tokens() -> None:
    engine = ScriptedEngine()
    counts = [
        asked(engine, "/v1/messages/count_tokens", **fields).json()["input_tokens"]
        for fields in ({}, {"tools": [WEATHER]})
    ]
    assert counts[1] > counts[0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tools": "x"}, "'tools' must be a list"),
        ({"tools": [1]}, "'tools[0]' must be an object"),
        ({"tools": [{"name": "x"}]}, "'tools[0].input_schema' is missing"),
        ({"tools": [{**WEATHER, "name": ""}]}, "'tools[0].name' must be a text"),
        ({"tools": [{**WEATHER, "name": 5}]}, "'tools[0].name' must be a text"),
        ({"tools": [{**WEATHER, "description": 5}]}, "'tools[0].description' must be a text"),
        ({"tools": [WEATHER, WEATHER]}, "two tools of the name 'weather'"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "only Anthropic's own servers have"),
        ({"tools": [WEATHER], "tool_choice": {"type": "some"}}, "'tool_choice.type' must be one of"),
        ({"tools": [WEATHER], "tool_choice": "any"}, "'tool_choice' must be an object"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "'tool_choice.name' must be the name"),
        ({"tool_choice": {"type": "any"}}, "needs 'tools'"),
        ({"output_config": {"effort": "some"}}, "'output_config.effort' must be one of"),
        ({"thinking": {"type": "hard"}}, "'thinking.type' must be"),
        ({"thinking": {"type": "enabled", "budget_tokens": "x"}}, "'budget_tokens' must be a whole number"),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b"}]}]},
            "'messages[0].content[0].input' must be an object",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
            "'messages[0].content[0].tool_use_id' must be a text",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]}, "a block of type tool_use"),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:40],
)
def test_what_can_not_be_read_is_told_by_its_place(fields: dict[str, Any], words: str) -> None:
    response = asked(ScriptedEngine(), **fields)
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]


@pytest.mark.parametrize(("number", "read"), [("1e400", "1e400"), ("9" * 5000, "9" * 5000), ("2.5", 2.5)])
def test_a_number_that_no_reader_of_json_takes_is_a_text(number: str, read: object) -> None:
    message = whole(ScriptedEngine(pieces(CALL.replace('"Köln"', number))), tools=[WEATHER], max_tokens=4096)
    (call,) = (block for block in message["content"] if block["type"] == "tool_use")
    assert call["input"] == {"city": read}
