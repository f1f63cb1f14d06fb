import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.policy.schema import checked, relaxed
from runtime.errors import RequestError
from tests.schemas import random_schema


def seen(schema: Any) -> Any:
    found = json.loads(checked(json.dumps(schema)))
    found.pop("x-guidance")
    return found


@pytest.mark.parametrize("seed", range(50))
def test_schemas_of_the_subset_pass_as_they_are(seed: int) -> None:
    schema = random_schema(seed)
    del schema["$schema"]  # only this is left out
    assert list(seen(schema).items()) == list(schema.items())


def test_white_space_is_bounded() -> None:
    assert json.loads(checked('{"type": "null"}'))["x-guidance"]["whitespace_pattern"].endswith("{0,20})")


def test_an_empty_schema_means_any_object() -> None:
    assert seen({}) == {"type": "object"}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"uniqueItems": True}, "'uniqueItems' at the top"),
        ({"not": {}}, "'not'"),
        ({"if": {}, "then": {}}, "'if'"),
        ({"maxItem": 3}, "'maxItem'"),
        ({"nullable": True}, "'nullable'"),
        ({"x-guidance": {"lenient": True}}, "'x-guidance'"),
        ({"properties": {"a": {"items": {"contains": {}}}}}, "'contains' at #/properties/a/items"),
        ({"anyOf": [{}, {"dependentRequired": {}}]}, "'dependentRequired' at #/anyOf/1"),
        ({"$defs": {"a": {"propertyNames": {}}}}, "'propertyNames' at #/\\$defs/a"),
        ({"prefixItems": [{"minContains": 1}]}, "'minContains' at #/prefixItems/0"),
        ({"additionalProperties": {"unevaluatedItems": True}}, "'unevaluatedItems'"),
        ({"format": "idn-email"}, "format 'idn-email' at the top is not one of date-time, "),
        ({"format": ["date"]}, "format"),
        ({"$ref": "https://example.org/schema"}, "'\\$ref' at the top must begin with '#'"),
        ({"minimum": 1e300}, "'minimum' at the top must be a number from"),
        ({"maximum": "5"}, "'maximum'"),
        ({"multipleOf": True}, "'multipleOf'"),
        ({"minProperties": 2}, "'minProperties' at the top is supported up to 1"),
        ({"anyOf": {}}, "'anyOf' at the top must be a list"),
        ({"properties": []}, "'properties' at the top must be an object"),
        ({"items": 3}, "#/items must be an object, true or false"),
        ({"items": [{}, 3]}, "#/items/1 must be an object, true or false"),
        ({"items": [{"not": {}}]}, "'not' at #/items/0"),
        ({"items": [{}], "additionalItems": {"not": {}}}, "'not' at #/additionalItems"),
        ({"items": [{}], "prefixItems": [{}]}, "'prefixItems' and 'items' of older drafts are mixed at the top"),
        ({"additionalItems": False, "prefixItems": [{}]}, "'prefixItems' and 'additionalItems' of older drafts"),
        ([], "the top must be an object"),
        (True, "must be an object"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(schema: object, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        checked(json.dumps(schema))
    assert caught.value.param == "json_schema"


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ({"items": [{"const": 1}]}, {"prefixItems": [{"const": 1}]}),
        ({"additionalItems": False, "items": [True]}, {"prefixItems": [True], "items": False}),
        ({"items": [{"items": [{}], "additionalItems": {}}]}, {"prefixItems": [{"prefixItems": [{}], "items": {}}]}),
        ({"properties": {"a": {"anyOf": [{"items": []}]}}}, {"properties": {"a": {"anyOf": [{"prefixItems": []}]}}}),
        ({"additionalProperties": {"items": [{}]}}, {"additionalProperties": {"prefixItems": [{}]}}),
        ({"items": {"type": "null"}, "additionalItems": False}, {"items": {"type": "null"}}),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "null"}, {"type": "null"}),
    ],
    ids=["list", "and more", "nested", "in lists", "in objects", "without list", "draft"],
)
def test_what_older_drafts_call_otherwise_is_written_in_the_words_of_today(older: Any, newer: Any) -> None:
    assert seen(older) == newer
    relaxed_schema = json.loads(relaxed(older))
    del relaxed_schema["x-guidance"]
    assert relaxed_schema == newer


def test_words_that_restrict_nothing_are_fine() -> None:
    schema = {"uniqueItems": False, "description": "a", "default": 1, "x-order": 3, "items": {"title": "b"}}
    assert seen(schema) == schema


@pytest.mark.parametrize("source", ["", "{", "[" * 100_000], ids=["nothing", "half", "deep"])
def test_what_is_no_json_is_refused(source: str) -> None:
    with pytest.raises(RequestError, match="not JSON"):
        checked(source)


def test_nesting_is_bounded() -> None:
    with pytest.raises(RequestError, match="nested more than 50"):
        checked('{"items":' * 60 + "{}" + "}" * 60)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["items", "prefixItems", "additionalItems", "anyOf", "properties", "type", "a"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_any_json_passes_or_is_refused(schema: object) -> None:
    try:
        json.loads(checked(json.dumps(schema)))
    except RequestError as error:
        assert error.param == "json_schema"


def test_a_relaxed_schema_leaves_out_what_cannot_be_held_to() -> None:
    inner = {"type": "string", "format": "colour", "not": {"const": "a"}, "minLength": 2}
    schema = {"properties": {"a": inner, "b": True}, "anyOf": [inner, 3], "allOf": 3, "$ref": "http://x"}
    kept = {"type": "string", "minLength": 2}
    relaxed_schema = json.loads(relaxed(schema))
    del relaxed_schema["x-guidance"]
    assert relaxed_schema == {"properties": {"a": kept, "b": True}, "anyOf": [kept, {}]}


def test_a_relaxed_schema_keeps_todays_words_of_mixed_ones() -> None:
    mixed = {"prefixItems": [{"type": "null"}], "additionalItems": False, "items": [{}]}
    relaxed_schema = json.loads(relaxed(mixed))
    del relaxed_schema["x-guidance"]
    assert relaxed_schema == {"prefixItems": [{"type": "null"}]}


@given(
    st.dictionaries(
        st.sampled_from(["items", "prefixItems", "additionalItems", "anyOf", "properties", "$ref"]), _JSON, max_size=3
    )
)
def test_any_object_can_be_relaxed(schema: dict[str, object]) -> None:
    json.loads(relaxed(schema))
