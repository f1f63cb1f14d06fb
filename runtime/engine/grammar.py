"""What an answer may look like, and from where on: values only, nothing that compiles or checks them."""

from dataclasses import dataclass
from enum import Enum


class GrammarKind(Enum):
    """The language that a grammar is written in."""

    GBNF = "gbnf"  # llama.cpp's
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"  # of the whole answer, in the syntax of Rust's `regex`
    LARK = "lark"  # llguidance's


@dataclass(frozen=True, slots=True)
class Grammar:
    """`source` in the language of `kind`.

    With `triggers` it is lazy: the text is free until it contains one of them, and from that one's beginning on the
    grammar holds.
    """

    kind: GrammarKind
    source: str
    triggers: tuple[str, ...] = ()


class TriggerSearch:
    """Looks for the first of some texts in a stream of pieces, wherever the pieces are cut."""

    def __init__(self, triggers: tuple[str, ...]) -> None:
        self._triggers = tuple(trigger.encode() for trigger in triggers)
        self._num_kept = max(len(trigger) for trigger in self._triggers) - 1
        self._end = b""

    def found_with(self, piece: bytes) -> bytes | None:
        """Return the stream from the trigger on, were `piece` the next; None while there is no trigger in it."""
        stream = self._end + piece
        places = [place for trigger in self._triggers if (place := stream.find(trigger)) >= 0]
        return stream[min(places) :] if places else None

    def feed(self, piece: bytes) -> None:
        stream = self._end + piece
        self._end = stream[max(0, len(stream) - self._num_kept) :]
