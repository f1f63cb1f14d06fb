"""Checked fields of a JSON object, each error naming its path.

Absent and null mean the same, as in OpenAI's schema; unknown fields are ignored. Clients write whole numbers as `40.0`
too, so those count as integers. Whatever is wrong raises RequestError.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from runtime.errors import RequestError

D = TypeVar("D")
T = TypeVar("T")
_FLOAT32_MAX = 3.4e38  # llama.cpp computes with 32-bit floats


def wrong(path: str, wanted: str) -> RequestError:
    """Return the error of a value that is not what is wanted at a path."""
    return RequestError(f"'{path}' must be {wanted}", path)


def elements(value: object, path: str, wanted: str, *, is_filled: bool = False) -> Iterator[tuple[object, str]]:
    """Return the elements of a list, each with its path; `is_filled`: the list has at least one."""
    if not isinstance(value, list) or (is_filled and not value):
        raise wrong(path, wanted)
    return ((each, f"{path}[{index}]") for index, each in enumerate(value))


class JsonObject:
    """The fields of a JSON object. `path` is its place in the document, empty for the document itself."""

    def __init__(self, fields: Mapping[str, Any], path: str = "") -> None:
        self.fields = fields
        self.path = path

    @classmethod
    def of(cls, value: object, path: str, wanted: str = "an object") -> "JsonObject":
        """Return a value's fields. Raises RequestError when the value is no object."""
        if not isinstance(value, Mapping):
            raise wrong(path, wanted) if path else RequestError("the body must be a JSON object", path)
        return cls(value, path)

    def path_of(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def wrong(self, name: str, wanted: str) -> RequestError:
        return wrong(self.path_of(name), wanted)

    def raw(self, name: str) -> Any:
        """Return the JSON value for a parser of its own; None when absent."""
        return self.fields.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __contains__(self, name: str) -> bool:
        return self.fields.get(name) is not None

    def text(self, name: str, default: D) -> str | D:
        value = self.fields.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        return value

    def required_text(self, name: str, *, is_filled: bool = False) -> str:
        """Return a text that must be there; `is_filled`: the empty text won't do."""
        value = self.text(name, None)
        if value is None or (is_filled and not value):
            raise self.wrong(name, "a text")
        return value

    def missing(self, name: str) -> RequestError:
        return RequestError(f"'{self.path_of(name)}' is missing", self.path_of(name))

    def choice(self, name: str, known: Mapping[str, T]) -> T:
        """Return what a word that must be there means."""
        value = self.fields.get(name)
        if not isinstance(value, str) or value not in known:
            raise self.wrong(name, f"one of {', '.join(known)}")
        return known[value]

    def flag(self, name: str, default: bool) -> bool:
        value = self.fields.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return default if value is None else value

    def number(self, name: str, default: float, *, low: float = -_FLOAT32_MAX, high: float = _FLOAT32_MAX) -> float:
        value = self.fields.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(name, "a number")
        if not low <= value <= high:
            raise self.wrong(name, _range("a number", low, high))
        return float(value)

    def integer(
        self, name: str, default: D, *, low: float = -math.inf, high: float = math.inf, wanted: str = ""
    ) -> int | D:
        """Return a whole number; `wanted` says in the error what it stands for."""
        value = self.fields.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
            raise self.wrong(name, wanted or "a whole number")
        if not low <= value <= high:
            raise self.wrong(name, wanted or _range("a whole number", low, high))
        return int(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return one text or a list of texts as a tuple; empty when absent."""
        value = self.fields.get(name)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a text or a list of texts")
        return tuple(value)

    def nested(self, name: str) -> "JsonObject":
        """Return an object's fields, empty when absent; errors name them without the object."""
        value = self.fields.get(name)
        return JsonObject({} if value is None else JsonObject.of(value, self.path_of(name)).fields)

    def over(self, fallback: "JsonObject") -> "JsonObject":
        """Return these fields, and where they are absent those of `fallback`."""
        mine = {name: value for name, value in self.fields.items() if value is not None}
        return JsonObject({**fallback.fields, **mine})

    def refuse(self, name: str, *, but: Sequence[object] = ()) -> None:
        """Raise RequestError when a field asks for what isn't done here: anything but null and the values in `but`."""
        value = self.fields.get(name)
        # `==` alone would take false for 0.
        if value is not None and not any(value == known and type(value) is type(known) for known in but):
            raise RequestError(f"'{name}' is not supported by this server; leave it out", name)


def _range(noun: str, low: float, high: float) -> str:
    if high == math.inf:
        return f"{noun} of at least {low:g}"
    return f"{noun} from {low:g} to {high:g}"
