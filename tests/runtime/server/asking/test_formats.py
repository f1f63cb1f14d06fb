import json
from typing import Any

import pytest

from runtime.checked import JsonObject
from runtime.engine.values.grammar import Grammar, GrammarKind
from runtime.errors import RequestError
from runtime.server.asking.formats import read_grammar, read_response_format

SCHEMA = {"type": "object", "properties": {"b": {}, "a": {}}}


def schema(value: object) -> Grammar:
    return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(value))


@pytest.mark.parametrize(
    ("fields", "grammar"),
    [
        ({}, None),
        ({"grammar": "", "json_schema": None}, None),
        ({"grammar": 'root ::= "a"'}, Grammar(GrammarKind.GBNF, 'root ::= "a"')),
        ({"grammar": '%llguidance {}\nstart: "a"'}, Grammar(GrammarKind.LARK, '%llguidance {}\nstart: "a"')),
        ({"json_schema": SCHEMA}, schema(SCHEMA)),
        ({"json_schema": {}}, schema({})),
        ({"grammar": "x", "json_schema": SCHEMA}, Grammar(GrammarKind.GBNF, "x")),
        ({"grammar": "", "json_schema": SCHEMA, "grammar_lazy": False}, schema(SCHEMA)),
    ],
)
def test_llama_cpps_fields(fields: dict[str, Any], grammar: Grammar | None) -> None:
    assert read_grammar(JsonObject(fields)) == grammar


@pytest.mark.parametrize(
    ("response_format", "grammar"),
    [
        (None, None),
        ({}, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, schema({})),
        ({"type": "json_object", "schema": SCHEMA}, schema(SCHEMA)),
        ({"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}}, schema(SCHEMA)),
        ({"type": "json_schema", "json_schema": {"name": "a"}}, schema({})),
    ],
)
def test_openais_response_format(response_format: object, grammar: Grammar | None) -> None:
    assert read_response_format(JsonObject({"response_format": response_format})) == grammar


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"grammar": 3}, "grammar"),
        ({"grammar": "x", "grammar_lazy": True}, "grammar_lazy"),
        ({"json_schema": "x"}, "json_schema"),
        ({"json_schema": True}, "json_schema"),
    ],
)
def test_what_is_no_grammar_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_grammar(JsonObject(fields))
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("response_format", "param"),
    [
        ("json", "response_format"),
        ({"type": "xml"}, "response_format.type"),
        ({"type": 1}, "response_format.type"),
        ({"type": "json_schema", "json_schema": []}, "json_schema"),
        ({"type": "json_schema", "json_schema": {"schema": []}}, "response_format.json_schema.schema"),
        ({"type": "json_object", "schema": "x"}, "response_format.schema"),
    ],
)
def test_a_response_format_that_is_none_is_refused(response_format: object, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_response_format(JsonObject({"response_format": response_format}))
    assert caught.value.param == param
