"""Events to the bytes of a stream: server-sent events, or a line of JSON each (NDJSON). Pure: no sockets, no asyncio.

One event is one bytes object and must stay one write: there are clients that parse what a single read brings. JSON is
written in ASCII, because others split lines wherever Unicode sees a line end (U+2028, U+0085) or decode by guessing.
"""

import json
from collections.abc import Callable

DONE = b"data: [DONE]\n\n"
_GAP = "\0text\0"


class Lazy:
    """A part of an answer that is made when it is written: it would be large, and there are many like it.

    Making it lets other threads have their turn, which writing JSON alone doesn't.
    """

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], object]) -> None:
        self.make = make


def to_json(value: object) -> str:
    """Return compact JSON in ASCII. Raises ValueError for numbers that JSON doesn't have."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=_made)


def _made(value: object) -> object:
    if isinstance(value, Lazy):
        return value.make()
    raise TypeError(f"{type(value).__name__} has no JSON")


def frame(value: object) -> bytes:
    """Return one `data:` event."""
    return f"data: {to_json(value)}\n\n".encode("ascii")


def named_frame(name: str, value: object) -> bytes:
    """Return one event with a name of its own."""
    return f"event: {name}\ndata: {to_json(value)}\n\n".encode("ascii")


def line(value: object) -> bytes:
    """Return one line of NDJSON."""
    return f"{to_json(value)}\n".encode("ascii")


class TextFrame:
    """Events that differ in one text only: what lies around it is written once, not once a token."""

    GAP = _GAP

    def __init__(self, value: object) -> None:
        """`value` holds `TextFrame.GAP` where the text goes."""
        head, tail = frame(value).split(to_json(_GAP).encode("ascii"))
        self._head, self._tail = head, tail

    def with_text(self, text: str) -> bytes:
        return self._head + to_json(text).encode("ascii") + self._tail
