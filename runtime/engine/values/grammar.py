"""What an answer may look like, and from where on: values only, nothing that compiles or checks them."""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class GrammarKind(Enum):
    """The language that a grammar is written in."""

    GBNF = "gbnf"  # llama.cpp's
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"  # of the whole answer, in the syntax of Rust's `regex`
    LARK = "lark"  # llguidance's


@dataclass(frozen=True, slots=True)
class Span:
    """A span at the beginning of a text, between two marks; `is_begun`: the opening one stands before the text."""

    opening: str
    closing: str
    is_begun: bool = False


@dataclass(frozen=True, slots=True)
class Grammar:
    """`source` in the language of `kind`.

    With `triggers` it is lazy: the text is free until it contains one of them, and from that one's beginning on the
    grammar holds. `trigger_tokens` are those of them that are no text: control tokens, by their ids. What a lazy
    grammar's text begins with may be `skipped`, if it is there: no trigger counts in it.
    """

    kind: GrammarKind
    source: str
    triggers: tuple[str, ...] = ()
    trigger_tokens: frozenset[int] = frozenset()
    skipped: Span | None = None

    @property
    def is_lazy(self) -> bool:
        return bool(self.triggers or self.trigger_tokens)


class Constraint(Protocol):
    """What one sequence may still say, whoever checks it. One thread at a time."""

    def take(self, token: int) -> bool:
        """Take a token that fits and return True; otherwise change nothing."""

    def mask(self) -> bytes:
        """Return a byte for each token: 0xff where it fits, 0 where not. Raises RequestError at a grammar's limits."""
