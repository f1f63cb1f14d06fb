"""Grammars of answers with calls, compiled for the tiny real model: what they let through."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runtime.chat.call_form import GENERIC, CallForm, Placeholder, TaggedArguments
from runtime.chat.call_grammar import Calls, GrammarWriter, arguments_schema, loosened
from runtime.chat.calls import CallReader
from runtime.chat.conversation import Tool
from runtime.chat.reasoning import Stage, ThinkingMarks, ThinkingState
from runtime.engine.guidance.guide import Guide
from runtime.engine.native import Library, Model
from runtime.engine.values.grammar import Grammar, GrammarKind
from runtime.errors import RequestError

WEATHER = Tool(
    "weather",
    parameters={
        "properties": {
            "city": {"type": "string"},
            "unit": {"type": "string", "enum": ["C", "F"]},
            "days": {"type": "integer"},
        },
        "required": ["city"],
    },
)
TIME = Tool("time")
TAGGED = CallForm(
    opening=("<call>",),
    middle=("\n",),
    between=("</call><call>",),
    closing=("</call><|end|>\n",),
    arguments=TaggedArguments("<key>", "</key><value>", "</value>\n"),
)
NESTED = CallForm(
    opening=("<calls>\n<call>",), middle=(" ",), between=("</call>\n<call>",), closing=("</call>\n</calls>",)
)
NUMBERED = CallForm(("<calls>",), (":", Placeholder.NUMBER, "<args>"), ("</call>",), ("</calls>",))
END = 2
THINKING = ThinkingMarks(is_known=True)


@pytest.fixture(scope="module")
def guide(stories260k: Path) -> Iterator[Guide]:
    model = Model(Library(), stories260k)
    yield Guide(model)
    model.close()


@pytest.fixture
def writer() -> GrammarWriter:
    return GrammarWriter(lambda mark: END if mark == "<|end|>" else None, [END])


def fits(guide: Guide, grammar: Grammar, text: str) -> bool:
    """Whether an answer may be this text, and end there. Byte tokens are the vocabulary's 3 to 258."""
    constraint = guide.constraint(grammar)
    return all(constraint.take(byte + 3) for byte in text.encode()) and constraint.take(END)


def calls(form: CallForm, *tools: Tool, is_parallel: bool = True) -> Calls:
    return Calls(form, tools, is_parallel)


ONE = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
TWO = f'{ONE}\n<tool_call>\n{{"name": "time", "arguments": {{}}}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "is_parallel", "is_fit"),
    [
        (ONE, True, True),
        (ONE, False, True),
        (TWO, True, True),
        (TWO, False, False),
        ("Hello", True, False),
        ("", True, False),
        (ONE.replace("weather", "other"), True, False),
        (ONE.replace("city", "town"), True, False),
        (ONE.replace('"city": "Rome"', ""), True, False),
        (f"{ONE} Now wait.", True, False),
    ],
    ids=str,
)
def test_an_answer_that_must_call_holds_to_the_form_and_the_schemas(
    guide: Guide, writer: GrammarWriter, text: str, is_parallel: bool, is_fit: bool
) -> None:
    grammar = writer.strict(calls=calls(GENERIC, WEATHER, TIME, is_parallel=is_parallel), answer=None, thinking=None)
    assert fits(guide, grammar, text) is is_fit


@pytest.mark.parametrize(
    ("text", "is_fit"),
    [
        ("<call>weather\n<key>city</key><value>a <b>\n</value>\n</call>", True),
        ("<call>weather\n<key>city</key><value>x</value>\n<key>unit</key><value>C</value>\n</call>", True),
        ("<call>weather\n<key>city</key><value>x</value>\n<key>unit</key><value>K</value>\n</call>", False),
        ("<call>weather\n<key>city</key><value>x</value>\n<key>days</key><value>3</value>\n</call>", True),
        ("<call>weather\n<key>city</key><value>x</value>\n<key>days</key><value>few</value>\n</call>", False),
        ("<call>weather\n</call>", False),
        ("<call>time\n</call><call>time\n</call>", True),
    ],
    ids=str,
)
def test_arguments_that_are_written_one_by_one_hold_to_the_schema(
    guide: Guide, writer: GrammarWriter, text: str, is_fit: bool
) -> None:
    assert fits(guide, writer.strict(calls=calls(TAGGED, WEATHER, TIME), answer=None, thinking=None), text) is is_fit


def test_holes_may_be_filled(guide: Guide, writer: GrammarWriter) -> None:
    grammar = writer.strict(calls=calls(NUMBERED, TIME), answer=None, thinking=None)
    assert fits(guide, grammar, "<calls>time:0<args>{}</call>time:12<args>{}</calls>")
    assert not fits(guide, grammar, "<calls>time:<args>{}</calls>")


def test_where_two_texts_begin_alike_either_may_come(guide: Guide, writer: GrammarWriter) -> None:
    longer = Tool("time:zone")
    nested = writer.strict(calls=calls(NESTED, TIME, longer), answer=None, thinking=None)
    assert fits(guide, nested, "<calls>\n<call>time {}</call>\n</calls>")
    assert fits(guide, nested, "<calls>\n<call>time {}</call>\n<call>time:zone {}</call>\n</calls>")
    numbered = writer.strict(calls=calls(NUMBERED, TIME, longer), answer=None, thinking=None)
    assert fits(guide, numbered, "<calls>time:0<args>{}</call>time:zone:1<args>{}</calls>")


@pytest.mark.parametrize(
    ("stage", "text", "is_fit"),
    [
        (Stage.POSSIBLE, f"<think>Hm. <tool_call></think>\n\n{ONE}", True),
        (Stage.POSSIBLE, ONE, True),
        (Stage.POSSIBLE, "<think>Hm.", False),
        (Stage.BEGUN, f"Hm.</think>{ONE}", True),
        (Stage.BEGUN, ONE, False),
        (Stage.ENDED, f"\n\n{ONE}", True),
        (Stage.ENDED, f"Hm.</think>{ONE}", False),
    ],
    ids=str,
)
def test_thinking_comes_before_calls(
    guide: Guide, writer: GrammarWriter, stage: Stage, text: str, is_fit: bool
) -> None:
    state = ThinkingState(THINKING, stage)
    assert fits(guide, writer.strict(calls=calls(GENERIC, WEATHER), answer=None, thinking=state), text) is is_fit


def test_an_answer_may_be_of_a_form_or_a_call(guide: Guide, writer: GrammarWriter) -> None:
    form = Grammar(GrammarKind.JSON_SCHEMA, '{"type": "integer"}')
    grammar = writer.strict(calls=calls(GENERIC, WEATHER), answer=form, thinking=None)
    assert fits(guide, grammar, "12")
    assert fits(guide, grammar, ONE)
    assert not fits(guide, grammar, "twelve")


@pytest.mark.parametrize(
    ("text", "is_fit"),
    [
        ("Hello <tool", True),
        (f"Let me see.\n{ONE}", True),
        (f"{ONE}\nNow wait", False),
        ("<tool_call>no", False),
        ("<think>I could <tool_call> it</think>\nHello", True),
        (f"<think>I could <tool_call> it</think>\n{ONE}", True),
        ("<think>I could</think><tool_call>it", False),
    ],
    ids=str,
)
def test_an_answer_that_may_call_is_free_until_it_does(
    guide: Guide, writer: GrammarWriter, text: str, is_fit: bool
) -> None:
    assert fits(guide, writer.lazy(calls(GENERIC, WEATHER), ThinkingState(THINKING)), text) is is_fit


def test_control_tokens_are_written_as_tokens() -> None:
    writer = GrammarWriter({"<tool_call>": 7, "</tool_call>": 8, "</think>": 9}.get, [])
    strict = writer.strict(calls=calls(GENERIC, TIME), answer=None, thinking=ThinkingState(THINKING, Stage.BEGUN))
    assert "<[7]>" in strict.source
    assert "thinking <[9]>" in strict.source
    assert "tool_call" not in strict.source
    lazy = writer.lazy(calls(GENERIC, TIME), None)
    assert (lazy.triggers, lazy.trigger_tokens) == ((), frozenset({7}))
    assert writer.control_tokens(*GENERIC.texts) == {7, 8}


SCHEMAS: list[dict[str, Any]] = [
    {},
    {"type": "object", "properties": {"a": {"type": "string", "minLength": 2}}, "required": ["a"]},
    {"properties": {"a": {"anyOf": [{"type": "null"}, {"type": "integer"}]}}, "additionalProperties": False},
    {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"enum": ["b", "c"]}}, "required": ["a"]},
    {"properties": {"a": {"type": "array", "uniqueItems": True, "items": {"type": "number", "unheard": 1}}}},
    {"properties": {"a": {"type": "string", "format": "colour", "not": {}}}},
    {"type": "object", "patternProperties": {"^b": {"type": "integer"}}, "additionalProperties": False},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
def test_any_schema_can_be_held_to_as_far_as_it_goes(guide: Guide, writer: GrammarWriter, schema: object) -> None:
    assert isinstance(schema, dict)
    tool = Tool("do", parameters=schema)
    guide.constraint(writer.strict(calls=calls(GENERIC, tool), answer=None, thinking=None))


def test_a_strict_schema_is_held_to_or_refused() -> None:
    with pytest.raises(RequestError, match="uniqueItems"):
        arguments_schema(Tool("do", parameters=SCHEMAS[4], is_strict=True))
    relaxed = json.loads(arguments_schema(Tool("do", parameters=SCHEMAS[4])))
    assert relaxed["properties"]["a"] == {"type": "array", "items": {"type": "number"}}


def test_a_loosened_tool_keeps_the_names_of_its_arguments() -> None:
    loose = loosened(WEATHER)
    assert loose.parameters == {"properties": {"city": {"type": "string"}, "unit": {"type": "string"}, "days": {}}}
    assert loosened(TIME).parameters == {"type": "object"}


def test_what_the_grammar_lets_through_the_reader_reads(guide: Guide, writer: GrammarWriter) -> None:
    reader = CallReader(TAGGED, [WEATHER])
    text = "<call>weather\n<key>city</key><value>a</value>\n<key>days</key><value>-3</value>\n</call>"
    assert fits(guide, writer.strict(calls=calls(TAGGED, WEATHER), answer=None, thinking=None), text)
    events = [*reader.feed(text), *reader.finish()]
    arguments = json.loads("".join(event.text for event in events if hasattr(event, "text")))
    jsonschema.validate(arguments, dict(WEATHER.parameters))
