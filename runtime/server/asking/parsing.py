"""JSON in bounded time: what a document holds is counted before it is parsed.

Python's parser is one call that nothing else of the program runs beside. A text of many megabytes is parsed in a
moment, ten million empty lists take longer than a quarter of a minute. So the size of a document says little, and what
counts is the number of its values. Most documents are cleared by counting bytes, which also counts what lies within
texts; only the others are looked at a second time, without their texts.
"""

import json
import math
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves it out
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any, NoReturn

from runtime.errors import RequestError
from runtime.server.refusals import BodyTooLarge

MAX_NESTING = 128
_COUNTED_AT_ONCE = 256 * 1024  # bytes; some milliseconds
_COUNTED_BYTES = b'",[{'
_OTHER_BYTES = bytes(set(range(256)) - set(_COUNTED_BYTES) - {ord("\\")})


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one document may hold. `max_texts` counts names, texts, lists and objects; `max_values` their elements.

    Numbers are cheap: a prompt may be a list of very many.
    """

    max_texts: int
    max_values: int


# Some tenths of a second of parsing. The longest conversations that agents send have some ten thousand texts.
BODY_LIMITS = Limits(max_texts=200_000, max_values=1_000_000)
# Somebody's chats of years: ten texts to a message.
IMPORT_LIMITS = Limits(max_texts=4_000_000, max_values=4_000_000)


def parse_object(data: bytes | bytearray, limits: Limits = BODY_LIMITS) -> dict[str, Any]:
    """Return a JSON object. Raises RequestError for anything else, half surrogates and infinite numbers included.

    Raises BodyTooLarge for more than `limits`.
    """
    value = _parse(data, limits)
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object")
    return value


def parse_list(data: bytes | bytearray, limits: Limits = BODY_LIMITS) -> list[Any]:
    """Return a JSON list; as `parse_object`."""
    value = _parse(data, limits)
    if not isinstance(value, list):
        raise RequestError("the body must be a JSON list")
    return value


def check_size(data: bytes | bytearray, limits: Limits = BODY_LIMITS, *, num_at_once: int = _COUNTED_AT_ONCE) -> None:
    """Raise BodyTooLarge when a document holds more than `limits`. Looks at `num_at_once` bytes at a time."""
    if _is_surely_within(data, limits):
        return
    counts = _Counts()
    for start in range(0, len(data), num_at_once):
        counts.feed(data[start : start + num_at_once])
        if counts.num_texts > limits.max_texts:
            raise BodyTooLarge(f"the body holds more than {limits.max_texts:,} names, texts, lists and objects")
        if counts.num_values > limits.max_values:
            raise BodyTooLarge(f"the body holds more than {limits.max_values:,} values")


def _is_surely_within(data: bytes | bytearray, limits: Limits) -> bool:
    num_texts = data.count(b'"') // 2 + data.count(b"[") + data.count(b"{")
    return num_texts <= limits.max_texts and data.count(b",") <= limits.max_values


class _Counts:
    """Counts what is in JSON that comes in pieces, where it is none up to where that shows."""

    def __init__(self) -> None:
        self.num_texts = 0
        self.num_values = 0
        self._is_in_text = False
        self._rest = b""  # backslashes that may go on in the next piece

    def feed(self, piece: bytes | bytearray) -> None:
        marks = self._rest + piece
        kept = marks.rstrip(b"\\")
        is_escaping = (len(marks) - len(kept)) % 2 == 1
        self._rest = b"\\" if is_escaping else b""
        # Two backslashes are one that escapes nothing; outside of texts there are none.
        marks = kept.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _OTHER_BYTES)
        parts = marks.split(b'"')
        outside = b"".join(parts[self._is_in_text :: 2])
        num_begun = (len(parts) - self._is_in_text) // 2
        self.num_texts += num_begun + outside.count(b"[") + outside.count(b"{")
        self.num_values += outside.count(b",")
        self._is_in_text ^= len(parts) % 2 == 0


def _parse(data: bytes | bytearray, limits: Limits) -> Any:
    check_size(data, limits)
    try:
        value = _decoder(data).decode(data.decode("utf-8"))
        if _is_surely_within(data, BODY_LIMITS) and b"\\u" in data:
            # The only way half of a surrogate pair comes in; no tokenizer can read one.
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


def _decoder(data: bytes | bytearray) -> json.JSONDecoder:
    """Return what parses a document: Python's parser in C or, where that would take long, in Python, beside others."""
    kind = json.JSONDecoder if _is_surely_within(data, BODY_LIMITS) else _PythonDecoder
    return kind(parse_constant=_refuse_constant, parse_float=_parse_float)


class _PythonDecoder(json.JSONDecoder):
    """The same in Python, but for the texts."""

    def __init__(self, **parsers: Any) -> None:
        super().__init__(**parsers)
        self.parse_string = _scan_whole_characters
        self.scan_once = py_make_scanner(self)


def _scan_whole_characters(document: str, start: int, strict: bool) -> tuple[str, int]:
    text, end = scanstring(document, start, strict)
    text.encode("utf-8")  # raises UnicodeError for half surrogates
    return text, end


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
