"""A request's body: bytes in, JSON out, or a RequestError that says what is wrong with it."""

import json
import math
from typing import Any, NoReturn

from starlette.requests import Request

from runtime.checked import JsonObject
from runtime.errors import RequestError
from runtime.server.refusals import BodyTooLarge

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_NESTING = 128
_MAX_LENGTH_DIGITS = 19  # Python refuses to read thousands of digits


async def read_body(request: Request) -> JsonObject:
    """Read and parse a request's body. Raises BodyTooLarge, or RequestError when it isn't a JSON object."""
    return JsonObject(parse_object(await read_bytes(request, MAX_BODY_BYTES)))


async def read_list(request: Request) -> list[Any]:
    """The same for a body that is a JSON list."""
    return parse_list(await read_bytes(request, MAX_BODY_BYTES))


async def read_bytes(request: Request, max_bytes: int) -> bytes:
    """Read a request's body. Raises BodyTooLarge."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > _MAX_LENGTH_DIGITS or int(declared) > max_bytes):
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
