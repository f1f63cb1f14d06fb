"""The fields of a request, declared once: a declaration reads the field, and describes it in `/openapi.json`.

What a dialect parses with a function of its own is declared as `Special`, with its JSON schema beside it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from runtime.checked import JsonObject

D = TypeVar("D")
F = TypeVar("F", bound=Callable[..., Any])
Schema = dict[str, Any]

# JSON schemas of fields that a function of its own reads.
OBJECT: Schema = {"type": "object"}
OBJECTS: Schema = {"type": "array", "items": OBJECT}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a JSON body; `text` says in a line what it is for."""

    name: str
    text: str

    def schema(self) -> Schema:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Integer(Field):
    """A whole number; one above `clamp` counts as that."""

    low: float = -math.inf
    high: float = math.inf
    clamp: int | None = None

    def value_in(self, body: JsonObject, default: D) -> int | D:
        value = body.integer(self.name, None, low=self.low, high=self.high)
        if value is None or self.clamp is None:
            return default if value is None else value
        return min(value, self.clamp)

    def schema(self) -> Schema:
        return {"type": "integer", **_bounds(self.low, self.high)}


@dataclass(frozen=True, slots=True)
class Number(Field):
    low: float | None = None
    high: float | None = None

    def value_in(self, body: JsonObject, default: float) -> float:
        limits = {"low": self.low, "high": self.high}
        return body.number(self.name, default, **{name: limit for name, limit in limits.items() if limit is not None})

    def schema(self) -> Schema:
        low, high = self.low, self.high
        return {"type": "number", **_bounds(-math.inf if low is None else low, math.inf if high is None else high)}


@dataclass(frozen=True, slots=True)
class Flag(Field):
    def value_in(self, body: JsonObject, default: bool) -> bool:
        return body.flag(self.name, default)

    def schema(self) -> Schema:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Text(Field):
    def value_in(self, body: JsonObject, default: D) -> str | D:
        return body.text(self.name, default)

    def schema(self) -> Schema:
        return {"type": "string"}


@dataclass(frozen=True, slots=True)
class Texts(Field):
    """One text or a list of them: `most` of them, with `max_characters` in all where more would cost others time."""

    most: int
    max_characters: int | None = None

    def value_in(self, body: JsonObject) -> tuple[str, ...]:
        texts = body.texts(self.name)
        if len(texts) > self.most:
            raise body.wrong(self.name, f"at most {self.most:,} texts")
        if self.max_characters is not None and sum(map(len, texts)) > self.max_characters:
            raise body.wrong(self.name, f"at most {self.max_characters:,} characters in all")
        return texts

    def schema(self) -> Schema:
        return {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": self.most}]}


@dataclass(frozen=True, slots=True)
class Special(Field):
    """Read by a function of the dialect's; `json` is its schema."""

    json: Mapping[str, Any] = field(default_factory=dict)

    def schema(self) -> Schema:
        return dict(self.json)


@dataclass(frozen=True, slots=True)
class Operation:
    """What an endpoint does and which fields it reads, of the body or, where there is none, of the query.

    Others it ignores.
    """

    summary: str
    fields: tuple[Field, ...] = ()
    required: tuple[str, ...] = ()


_ATTRIBUTE = "operation"


def operation(summary: str, *fields: Field, required: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Describe an endpoint by the declarations that it reads its body, or its query, with."""

    def mark(endpoint: F) -> F:
        setattr(endpoint, _ATTRIBUTE, Operation(summary, fields, required))
        return endpoint

    return mark


def operation_of(endpoint: Callable[..., Any]) -> Operation | None:
    found = getattr(endpoint, _ATTRIBUTE, None)
    return found if isinstance(found, Operation) else None


def _bounds(low: float, high: float) -> Schema:
    return {**({"minimum": low} if low != -math.inf else {}), **({"maximum": high} if high != math.inf else {})}
