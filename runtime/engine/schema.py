"""The subset of JSON Schema that answers can be held to.

A keyword that restricts a value and isn't honoured would give answers that don't validate, so it is refused by name,
and so is one that nobody knows: it may be a misspelling. Words that only describe are fine. Beyond this module's
tables, llguidance refuses what it can't turn into a grammar (a `oneOf` whose branches overlap, say).
"""

import json
from collections.abc import Mapping
from typing import Any

from runtime.errors import RequestError

_DESCRIBING = {
    *("$schema", "$comment", "title", "description", "default", "example", "examples", "deprecated", "readOnly"),
    *("writeOnly", "discriminator", "contentEncoding", "contentMediaType"),
}
_RESTRICTING = {
    *("type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "$defs", "definitions"),
    *("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"),
    *("items", "prefixItems", "minItems", "maxItems", "minLength", "maxLength", "pattern", "format"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")

_ONE_SCHEMA = ("items", "additionalProperties")
_LISTS_OF_SCHEMAS = ("prefixItems", "anyOf", "oneOf", "allOf")
_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
# Beyond, the numbers that JSON's readers see are rounded.
_LARGEST_NUMBER = 2**53
_MAX_DEPTH = 50
# Between the parts of a JSON text: nothing, a space, or a new line and an indentation, as llama.cpp allows. With any
# white space a model may go on with it for ever.
_WHITE_SPACE = r"( |\n{1,2}[ \t]{0,20})"


def checked(source: str) -> str:
    """Return a JSON schema as llguidance is to see it. Raises RequestError for anything outside the subset."""
    try:
        schema = json.loads(source)
    except (ValueError, RecursionError):
        raise _refused("it is not JSON") from None
    if schema == {}:
        schema = {"type": "object"}  # what llama-server makes of it
    _check(schema, "", 0)
    if not isinstance(schema, dict):
        raise _refused("it must be an object")
    return json.dumps({**schema, "x-guidance": {"whitespace_pattern": _WHITE_SPACE}})


def _check(schema: object, path: str, depth: int) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise _refused(f"{_place(path)} must be an object, true or false")
    if depth > _MAX_DEPTH:
        raise _refused(f"it is nested more than {_MAX_DEPTH} deep")
    for keyword, value in schema.items():
        _check_keyword(keyword, value, path)
    for keyword in _ONE_SCHEMA:
        if keyword in schema:
            _check(schema[keyword], f"{path}/{keyword}", depth + 1)
    for keyword in _LISTS_OF_SCHEMAS:
        for index, each in enumerate(_list(schema, keyword, path)):
            _check(each, f"{path}/{keyword}/{index}", depth + 1)
    for keyword in _NAMED_SCHEMAS:
        for name, each in _object(schema, keyword, path).items():
            _check(each, f"{path}/{keyword}/{name}", depth + 1)


def _check_keyword(keyword: str, value: object, path: str) -> None:
    place = _place(path)
    if keyword in _DESCRIBING or (keyword.startswith("x-") and keyword != "x-guidance"):
        return
    if keyword == "uniqueItems" and value is False:
        return
    if keyword not in _RESTRICTING:
        raise _refused(f"the keyword '{keyword}' at {place} is not supported")
    if keyword == "format" and value not in FORMATS:
        raise _refused(f"the format {value!r} at {place} is not one of {', '.join(FORMATS)}")
    if keyword == "$ref" and not (isinstance(value, str) and value.startswith("#")):
        raise _refused(f"'$ref' at {place} must begin with '#': only this schema's own parts can be used")
    if keyword in _BOUNDS and not _is_exact_number(value):
        raise _refused(f"'{keyword}' at {place} must be a number from -2^53 to 2^53")
    if keyword == "minProperties" and value not in (0, 1):
        # Nothing keeps a model from writing a name twice, which counts as one property.
        raise _refused(f"'minProperties' at {place} is supported up to 1 only")


def _is_exact_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST_NUMBER


def _list(schema: Mapping[str, Any], keyword: str, path: str) -> list[Any]:
    value = schema.get(keyword, [])
    if not isinstance(value, list):
        raise _refused(f"'{keyword}' at {_place(path)} must be a list of schemas")
    return value


def _object(schema: Mapping[str, Any], keyword: str, path: str) -> Mapping[str, Any]:
    value = schema.get(keyword, {})
    if not isinstance(value, Mapping):
        raise _refused(f"'{keyword}' at {_place(path)} must be an object of schemas")
    return value


def _place(path: str) -> str:
    return f"#{path}" if path else "the top"


def _refused(why: str) -> RequestError:
    return RequestError(f"the JSON schema can't be used: {why}", "json_schema")
