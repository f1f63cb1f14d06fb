import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.schema import checked
from runtime.errors import RequestError
from tests.schemas import random_schema


def seen(schema: Any) -> Any:
    found = json.loads(checked(json.dumps(schema)))
    found.pop("x-guidance")
    return found


@pytest.mark.parametrize("seed", range(50))
def test_schemas_of_the_subset_pass_as_they_are(seed: int) -> None:
    schema = random_schema(seed)
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
        ({"items": [{}]}, "#/items must be an object, true or false"),
        ([], "the top must be an object"),
        (True, "must be an object"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(schema: object, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        checked(json.dumps(schema))
    assert caught.value.param == "json_schema"


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
        | st.dictionaries(st.sampled_from(["items", "anyOf", "properties", "type", "minimum", "a"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(_JSON)
def test_any_json_passes_or_is_refused(schema: object) -> None:
    try:
        json.loads(checked(json.dumps(schema)))
    except RequestError as error:
        assert error.param == "json_schema"
