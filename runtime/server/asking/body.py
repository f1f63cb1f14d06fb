"""A request's body: JSON in, typed fields out, or a RequestError that names the field.

Absent and null mean the same, as in OpenAI's schema; unknown fields are nobody's concern. Clients write whole numbers
as `40.0` too, so those count as integers.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from starlette.requests import Request

from runtime.errors import RequestError
from runtime.server.refusals import BodyTooLarge

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_NESTING = 128
_FLOAT32_MAX = 3.4e38  # llama.cpp computes with 32-bit floats


class Body:
    """The fields of a JSON object."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    @property
    def fields(self) -> Mapping[str, Any]:
        return self._fields

    def raw(self, name: str) -> Any:
        """Return the JSON value for a parser of its own; None when absent."""
        return self._fields.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __contains__(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def text(self, name: str) -> str | None:
        value = self._fields.get(name)
        if value is not None and not isinstance(value, str):
            raise _wrong(name, "a text")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self._fields.get(name)
        if value is not None and not isinstance(value, bool):
            raise _wrong(name, "true or false")
        return default if value is None else value

    def number(self, name: str, default: float, *, low: float = -_FLOAT32_MAX, high: float = _FLOAT32_MAX) -> float:
        value = self._fields.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _wrong(name, "a number")
        if not low <= value <= high:
            raise _wrong(name, _range("a number", low, high))
        return float(value)

    def integer(self, name: str, default: int, *, low: float = -math.inf, high: float = math.inf) -> int:
        found = self.optional_integer(name, low=low, high=high)
        return default if found is None else found

    def optional_integer(self, name: str, *, low: float = -math.inf, high: float = math.inf) -> int | None:
        value = self._fields.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
            raise _wrong(name, "a whole number")
        if not low <= value <= high:
            raise _wrong(name, _range("a whole number", low, high))
        return int(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return one text or a list of texts as a tuple; empty when absent."""
        value = self._fields.get(name)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise _wrong(name, "a text or a list of texts")
        return tuple(value)

    def nested(self, name: str) -> "Body":
        """Return an object's fields; empty when absent."""
        value = self._fields.get(name)
        if value is not None and not isinstance(value, dict):
            raise _wrong(name, "an object")
        return Body(value or {})

    def over(self, fallback: "Body") -> "Body":
        """Return these fields, and where they are absent those of `fallback`."""
        mine = {name: value for name, value in self._fields.items() if value is not None}
        return Body({**fallback._fields, **mine})

    def refuse(self, name: str, *, but: Sequence[object] = ()) -> None:
        """Raise RequestError when a field asks for what isn't done here: anything but null and the values in `but`."""
        value = self._fields.get(name)
        # `==` alone would take false for 0.
        if value is not None and not any(value == known and type(value) is type(known) for known in but):
            raise RequestError(f"'{name}' is not supported by this server; leave it out", name)


async def read_body(request: Request) -> Body:
    """Read and parse a request's body. Raises BodyTooLarge, or RequestError when it isn't a JSON object."""
    return Body(parse_object(await read_bytes(request, MAX_BODY_BYTES)))


async def read_list(request: Request) -> list[Any]:
    """The same for a body that is a JSON list."""
    return parse_list(await read_bytes(request, MAX_BODY_BYTES))


async def read_bytes(request: Request, max_bytes: int) -> bytes:
    """Read a request's body. Raises BodyTooLarge."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise BodyTooLarge(f"the body is larger than {max_bytes} bytes")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > max_bytes:
            raise BodyTooLarge(f"the body is larger than {max_bytes} bytes")
    return bytes(data)


def parse_object(data: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises RequestError for anything else, half surrogates and infinite numbers included."""
    value = _parse(data)
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object")
    return value


def parse_list(data: bytes) -> list[Any]:
    """Return a JSON list; as `parse_object`."""
    value = _parse(data)
    if not isinstance(value, list):
        raise RequestError("the body must be a JSON list")
    return value


def _parse(data: bytes) -> Any:
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_parse_float)
        if b"\\u" in data:  # the only way half of a surrogate pair comes in; no tokenizer can read one
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise RequestError("the body must be valid UTF-8 without half surrogates") from None
    except RecursionError:
        raise RequestError(f"the body's JSON is nested more than {MAX_NESTING} deep") from None
    except ValueError as error:
        raise RequestError(f"the body must be JSON: {error}") from None
    # Fewer brackets than that can't nest deeper, which spares most bodies the walk.
    if data.count(b"{") + data.count(b"[") > MAX_NESTING and _is_deeper(value, MAX_NESTING):
        raise RequestError(f"the body's JSON is nested more than {MAX_NESTING} deep")
    return value


def _is_deeper(value: Any, limit: int) -> bool:
    """Whether lists and objects are nested more than `limit` deep. Level by level: recursion is what to spare."""
    level: list[Any] = [value]
    for _ in range(limit):
        inner = [list(each.values()) if isinstance(each, dict) else each for each in level]
        level = [item for items in inner for item in items if isinstance(item, (dict, list))]
        if not level:
            return False
    return True


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _parse_float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def _wrong(name: str, wanted: str) -> RequestError:
    return RequestError(f"'{name}' must be {wanted}", name)


def _range(noun: str, low: float, high: float) -> str:
    if high == math.inf:
        return f"{noun} of at least {low:g}"
    return f"{noun} from {low:g} to {high:g}"
