"""The subset of JSON Schema that answers can be held to.

A keyword that restricts a value and isn't honoured would give answers that don't validate, so it is refused by name,
and so is one that nobody knows: it may be a misspelling. Words that only describe are fine. Beyond this module's
tables, llguidance refuses what it can't turn into a grammar (a `oneOf` whose branches overlap, say).

Drafts before 2020-12 wrote `items` with a list, and `additionalItems`, for what are now `prefixItems` and `items`. Both
ways to write are read, and llguidance sees the newer one: it goes by `$schema` otherwise, and ignores the other.
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
    *("items", "prefixItems", "additionalItems", "minItems", "maxItems", "minLength", "maxLength", "pattern", "format"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")

_ONE_SCHEMA = ("items", "additionalItems", "additionalProperties")
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
    return _for_llguidance(schema)


def relaxed(schema: Mapping[str, Any]) -> str:
    """Return the same with what is outside the subset left out, so that less is held to than was asked for."""
    return _for_llguidance(_kept(schema, 0))


def _for_llguidance(schema: Mapping[str, Any]) -> str:
    return json.dumps({**_as_written_now(schema), "x-guidance": {"whitespace_pattern": _WHITE_SPACE}})


def _as_written_now(schema: Any) -> Any:
    """Return a schema in the words of draft 2020-12, less `$schema`: the rest of the subset is the same in all drafts.

    Nested no deeper than `_check` and `_kept` let it be.
    """
    if not isinstance(schema, Mapping):
        return schema
    written: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _LISTS_OF_SCHEMAS:
            written[keyword] = [_as_written_now(each) for each in value]
        elif keyword in _NAMED_SCHEMAS:
            written[keyword] = {name: _as_written_now(each) for name, each in value.items()}
        elif keyword == "items" and isinstance(value, list):
            written["prefixItems"] = [_as_written_now(each) for each in value]
            if "additionalItems" in schema:
                written["items"] = _as_written_now(schema["additionalItems"])
        elif keyword in ("items", "additionalProperties"):
            written[keyword] = _as_written_now(value)
        elif keyword not in ("$schema", "additionalItems"):
            written[keyword] = value
    return written


def _kept(schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for keyword, value in schema.items():
        try:
            _check_keyword(keyword, value, "")
            _check_items(schema, keyword, "")
        except RequestError:
            continue
        if _is_list_of_schemas(keyword, value) and isinstance(value, list):
            kept[keyword] = [_kept_value(each, depth) for each in value]
        elif keyword in _ONE_SCHEMA:
            kept[keyword] = _kept_value(value, depth)
        elif keyword in _NAMED_SCHEMAS and isinstance(value, Mapping):
            kept[keyword] = {name: _kept_value(each, depth) for name, each in value.items()}
        elif keyword not in _LISTS_OF_SCHEMAS and keyword not in _NAMED_SCHEMAS:
            kept[keyword] = value
    return kept


def _kept_value(value: object, depth: int) -> object:
    if isinstance(value, bool):
        return value
    return _kept(value, depth + 1) if isinstance(value, Mapping) and depth < _MAX_DEPTH else {}


def _check(schema: object, path: str, depth: int) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise _refused(f"{_place(path)} must be an object, true or false")
    if depth > _MAX_DEPTH:
        raise _refused(f"it is nested more than {_MAX_DEPTH} deep")
    for keyword, value in schema.items():
        _check_keyword(keyword, value, path)
        _check_items(schema, keyword, path)
        if _is_list_of_schemas(keyword, value):
            for index, each in enumerate(_list(schema, keyword, path)):
                _check(each, f"{path}/{keyword}/{index}", depth + 1)
        elif keyword in _ONE_SCHEMA:
            _check(value, f"{path}/{keyword}", depth + 1)
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


def _check_items(schema: Mapping[str, Any], keyword: str, path: str) -> None:
    """Refuse the words for lists where older and newer ones are mixed, so that nobody knows what is meant."""
    is_older = keyword == "additionalItems" or (keyword == "items" and isinstance(schema[keyword], list))
    if is_older and "prefixItems" in schema:
        raise _refused(f"'prefixItems' and '{keyword}' of older drafts are mixed at {_place(path)}")


def _is_list_of_schemas(keyword: str, value: object) -> bool:
    return keyword in _LISTS_OF_SCHEMAS or (keyword == "items" and isinstance(value, list))


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
