"""Random JSON schemas of the subset that answers can be held to (`engine/policy/schema.py`), the same for a seed.

Every one has finitely many values, or nearly so: a model that chooses at random gets to the end.
"""

import random
from typing import Any

Schema = dict[str, Any]

_WORDS = ("name", "age", "cat", "a b", "größe", "x_1", "tags", "it's", 'say "hi"', "to")
_PATTERNS = ("^[a-z]{1,8}$", "^[A-F0-9]{2}(-[A-F0-9]{2}){2}$", "^(yes|no|maybe)$", r"^\d{3}-\d{4}$", "^a.?b$")
_FORMATS = ("date-time", "time", "date", "email", "ipv4", "ipv6", "uuid")
_MAX_DEPTH = 3


def random_schema(seed: int) -> Schema:
    """Return a schema for `seed`; its top is an object or a list more often than not."""
    rng = random.Random(seed)
    schema = rng.choice((_object, _object, _array, _any_value))(rng, 0)
    if rng.random() < 0.2:
        schema = {"$defs": {"part": _any_value(rng, 1)}, "type": "array", "items": {"$ref": "#/$defs/part"}}
        schema |= {"minItems": 1, "maxItems": 3}
    if rng.random() < 0.1:
        schema = {
            "$ref": "#/definitions/tree",
            "definitions": {"tree": _tree(rng)},
        }
    return {"title": f"schema {seed}", "$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _tree(rng: random.Random) -> Schema:
    children = {"type": "array", "items": {"$ref": "#/definitions/tree"}, "maxItems": 1}
    return {
        "type": "object",
        "properties": {"value": _leaf(rng), "children": children},
        "required": ["value", "children"],
        "additionalProperties": False,
    }


def _any_value(rng: random.Random, depth: int) -> Schema:
    if depth >= _MAX_DEPTH:
        return _leaf(rng)
    makers = (_object, _array, _tuple, _any_of, _one_of, _all_of, _map, _several_types)
    return _leaf(rng) if rng.random() < 0.45 else rng.choice(makers)(rng, depth)


def _leaf(rng: random.Random) -> Schema:
    return rng.choice((_string, _string, _integer, _integer, _number, _choice, _constant))(rng)


def _string(rng: random.Random) -> Schema:
    kind = rng.randrange(4)
    if kind == 0:
        return {"type": "string", "pattern": rng.choice(_PATTERNS)}
    if kind == 1:
        return {"type": "string", "format": rng.choice(_FORMATS), "maxLength": 40}
    least = rng.randrange(4)
    return {"type": "string", "minLength": least, "maxLength": least + rng.randrange(1, 12), "description": "a text"}


def _integer(rng: random.Random) -> Schema:
    low = rng.randrange(-1000, 1000)
    high = low + rng.randrange(3, 100_000)
    schema: Schema = {"type": "integer"}
    schema |= {"minimum": low} if rng.random() < 0.7 else {"exclusiveMinimum": low}
    schema |= {"maximum": high} if rng.random() < 0.7 else {"exclusiveMaximum": high}
    if rng.random() < 0.2:
        schema = {"type": "integer", "minimum": 0, "maximum": 1000, "multipleOf": rng.choice((2, 5, 7, 10))}
    return schema


def _number(rng: random.Random) -> Schema:
    """Without `multipleOf` a number may have any number of digits, and a small model doesn't stop writing zeros."""
    low = rng.randrange(-50, 50) / 4
    high = low + rng.choice((0.5, 3, 1000.25))
    return {"type": "number", "minimum": low, "maximum": high, "multipleOf": rng.choice((0.25, 0.5))}


def _choice(rng: random.Random) -> Schema:
    values: list[Any] = [*rng.sample(_WORDS, 3), 5, -1.5, True, None, {"deep": [1, "two"]}]
    return {"enum": rng.sample(values, rng.randrange(1, 5))}


def _constant(rng: random.Random) -> Schema:
    return rng.choice(({"const": "fixed"}, {"const": 42}, {"type": "boolean"}, {"type": "null"}))


def _array(rng: random.Random, depth: int) -> Schema:
    least = rng.randrange(2)
    items = _any_value(rng, depth + 1)
    return {"type": "array", "items": items, "minItems": least, "maxItems": least + rng.randrange(1, 3)}


def _tuple(rng: random.Random, depth: int) -> Schema:
    count = rng.randrange(1, 4)
    items = [_any_value(rng, depth + 1) for _ in range(count)]
    return {"type": "array", "prefixItems": items, "items": False, "minItems": rng.randrange(count + 1)}


def _object(rng: random.Random, depth: int) -> Schema:
    names = rng.sample(_WORDS, rng.randrange(1, 5))
    return {
        "type": "object",
        "properties": {name: _any_value(rng, depth + 1) for name in names},
        "required": [name for name in names if rng.random() < 0.7],
        "additionalProperties": False,
    }


def _map(rng: random.Random, depth: int) -> Schema:
    """An object with names of the model's own choice."""
    schema: Schema = {"type": "object", "minProperties": rng.randrange(2), "maxProperties": rng.randrange(1, 3)}
    value = _any_value(rng, depth + 1)
    if rng.random() < 0.5:
        return schema | {"patternProperties": {"^[a-z]{1,6}$": value}, "additionalProperties": False}
    return schema | {"additionalProperties": _leaf(rng)}


def _any_of(rng: random.Random, depth: int) -> Schema:
    return {"anyOf": [_any_value(rng, depth + 1) for _ in range(rng.randrange(2, 4))]}


def _one_of(rng: random.Random, depth: int) -> Schema:
    """Branches that can't both hold, which llguidance must see for itself."""
    return {"oneOf": rng.sample([_object(rng, depth + 1), _array(rng, depth + 1), _integer(rng), _string(rng)], 2)}


def _all_of(rng: random.Random, depth: int) -> Schema:
    first, second = rng.sample(_WORDS, 2)
    left = {"type": "object", "properties": {first: _any_value(rng, depth + 1)}, "required": [first]}
    right = {"properties": {second: _any_value(rng, depth + 1), first: True}, "additionalProperties": False}
    return {"allOf": [left, right]}


def _several_types(rng: random.Random, _depth: int) -> Schema:
    return {
        "type": rng.sample(["string", "integer", "boolean", "null"], 2),
        "maxLength": 8,
        "maximum": 99,
        "minimum": 0,
    }
