"""llama.cpp's GBNF, read and written anew as a grammar of llguidance. Pure text to text.

llama.cpp's own sampler keeps every way in which the text so far can be read as a stack of its own. There are small
grammars that need more memory than any computer has (`root ::= e root "x" | "y"` with an `e` that can be empty, say),
and nothing can stop it half way. llguidance's parser shares what the readings have in common, and has limits.

Which tokens may come next is the same, so a seed gives llama-server's text. For that each character is a lexeme of its
own: longer ones would be matched greedily, and a grammar like `[a-z]* "x"` would not find its end.

Syntax as in llama.cpp's `grammars/README.md`, quirks as in its `llama-grammar.cpp`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from runtime.errors import RequestError

FindToken = Callable[[str], int | None]

_MAX_DEPTH = 50
_MAX_REPETITIONS = 2000  # llama.cpp's MAX_REPETITION_THRESHOLD: a longer minimum is refused, a longer maximum is none

_NAME = re.compile(r"[A-Za-z0-9-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_TOKEN = re.compile(r"<(?:\[(\d{1,9})\]|[^>]*)>")
_BOUNDS = re.compile(r"(\d+)\s*(,?)\s*(\d*)\s*\}")
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_HEX_LENGTHS = {"x": 2, "u": 4, "U": 8}
_ANY = "/(?s:.)/"
_NOTHING = '""'


@dataclass(frozen=True, slots=True)
class _Item:
    """A piece of a sequence, in Lark; `rule` when it is nothing but a reference."""

    lark: str
    rule: str = ""


_Alternatives = list[list[_Item]]


def to_lark(source: str, find_token: FindToken) -> str:
    """Return the grammar as Lark; its start rule is `start`.

    `find_token` returns the one token that a text like `<think>` is, if it is one. Raises RequestError that names the
    line for anything that isn't GBNF.
    """
    reader = _Reader(source, find_token)
    rules = reader.read()
    lines = [f"{name}: {_rule_body(name, alternatives)}" for name, alternatives in rules.items()]
    return "\n".join([f"start: {reader.names['root']}", *lines]) + "\n"


def _rule_body(name: str, alternatives: _Alternatives) -> str:
    """Write a rule; one that repeats by naming itself last, as a repetition, which costs the parser far less."""
    again = [items[:-1] for items in alternatives if items and items[-1].rule == name]
    ends = [items for items in alternatives if not items or items[-1].rule != name]
    if not again or not ends:
        return _join(alternatives)
    return f"({_join(again)})* ({_join(ends)})"


def _join(alternatives: _Alternatives) -> str:
    return " | ".join(" ".join(item.lark for item in items) or _NOTHING for items in alternatives)


class _Reader:
    """A recursive descent through one grammar."""

    def __init__(self, source: str, find_token: FindToken) -> None:
        self._source = source
        self._find_token = find_token
        self._at = 0
        self._depth = 0
        self._uses: dict[str, int] = {}  # where each rule is named for the first time, by its name in Lark
        self.names: dict[str, str] = {}  # each rule's name in Lark, which knows no digits in front

    def read(self) -> dict[str, _Alternatives]:
        rules: dict[str, _Alternatives] = {}
        self._skip(_SPACE_AND_LINES)
        while self._at < len(self._source):
            name = self._lark_name(self._expect_name())
            self._skip(_SPACE)
            self._expect("::=")
            self._skip(_SPACE_AND_LINES)
            rules[name] = self._alternatives(_SPACE)
            if self._peek() not in ("", "\r", "\n"):
                raise self._wrong("the rule should end here")
            self._skip(_SPACE_AND_LINES)
        if self.names.get("root") not in rules:
            raise RequestError("the grammar has no rule 'root', where the text begins", "grammar")
        for name, place in self._uses.items():
            if name not in rules:
                raise self._wrong("there is no such rule", place)
        return rules

    def _lark_name(self, name: str) -> str:
        return self.names.setdefault(name, f"r{len(self.names)}")

    def _alternatives(self, space: "re.Pattern[str]") -> _Alternatives:
        alternatives = [self._sequence(space)]
        while self._peek() == "|":
            self._at += 1
            self._skip(_SPACE_AND_LINES)
            alternatives.append(self._sequence(space))
        return alternatives

    def _sequence(self, space: "re.Pattern[str]") -> list[_Item]:
        items: list[_Item] = []
        while True:
            character = self._peek()
            if character in ("*", "+", "?", "{"):
                if not items:
                    raise self._wrong(f"there is nothing before {character!r} to repeat")
                items[-1] = _Item(f"({items[-1].lark}){self._repetition()}")
            else:
                item = self._item()
                if item is None:
                    return items
                items.append(item)
            self._skip(space)

    def _item(self) -> _Item | None:
        character = self._peek()
        if character == '"':
            return _Item(self._literal())
        if character == "[":
            return _Item(self._class())
        if character == ".":
            self._at += 1
            return _Item(_ANY)
        if character == "(":
            return _Item(self._group())
        if character in ("<", "!"):
            return _Item(self._token())
        if _NAME.match(character):
            place = self._at
            name = self._lark_name(self._expect_name())
            self._uses.setdefault(name, place)
            return _Item(name, rule=name)
        return None

    def _literal(self) -> str:
        self._at += 1
        characters = []
        while self._peek() != '"':
            characters.append(f"/{_escaped(self._character())}/")
        self._at += 1
        return f"({' '.join(characters)})" if len(characters) > 1 else "".join(characters) or _NOTHING

    def _class(self) -> str:
        self._at += 1
        negation = ""
        if self._peek() == "^":
            negation = "^"
            self._at += 1
        ranges = []
        while self._peek() != "]":
            place = self._at
            low = high = self._character()
            if self._peek() == "-" and self._source[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                high = self._character()
            if high < low:
                raise self._wrong("this range runs backwards", place)
            ranges.append(f"{_escaped(low)}-{_escaped(high)}")
        self._at += 1
        return f"/[{negation}{''.join(ranges)}]/" if ranges else _NOTHING

    def _group(self) -> str:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._wrong(f"groups are nested more than {_MAX_DEPTH} deep")
        self._at += 1
        self._skip(_SPACE_AND_LINES)
        alternatives = self._alternatives(_SPACE_AND_LINES)
        self._expect(")")
        self._depth -= 1
        return f"({_join(alternatives)})"

    def _token(self) -> str:
        place = self._at
        negation = ""
        if self._peek() == "!":
            negation = "^"
            self._at += 1
        match = _TOKEN.match(self._source, self._at)
        if match is None:
            raise self._wrong("a token is written <[id]> or <its text>")
        token = int(match[1]) if match[1] else self._find_token(match[0])
        if token is None:
            raise self._wrong(f"{match[0]} is not one token of this model", place)
        self._at = match.end()
        return f"<[{negation}{token}]>"

    def _repetition(self) -> str:
        sign = self._peek()
        place = self._at
        self._at += 1
        if sign != "{":
            return sign
        self._skip(_SPACE_AND_LINES)
        match = _BOUNDS.match(self._source, self._at)
        if match is None:
            raise self._wrong("a repetition is written {n}, {n,} or {n,m}", place)
        low = int(match[1])
        high = low if not match[2] else int(match[3]) if match[3] else None
        if low > _MAX_REPETITIONS:
            raise self._wrong(f"a repetition may need at most {_MAX_REPETITIONS} times", place)
        if high is not None and high > _MAX_REPETITIONS:
            high = None
        if high is not None and high < low:
            raise self._wrong("this repetition's bounds run backwards", place)
        self._at = match.end()
        return f"{{{low},{'' if high is None else high}}}"

    # -- characters -------------------------------------------------------------------------------------------------

    def _peek(self) -> str:
        return self._source[self._at : self._at + 1]

    def _skip(self, space: "re.Pattern[str]") -> None:
        match = space.match(self._source, self._at)
        assert match is not None
        self._at = match.end()

    def _expect(self, text: str) -> None:
        if not self._source.startswith(text, self._at):
            raise self._wrong(f"expected {text!r}")
        self._at += len(text)

    def _expect_name(self) -> str:
        match = _NAME.match(self._source, self._at)
        if match is None:
            raise self._wrong("expected the name of a rule")
        self._at = match.end()
        return match[0]

    def _character(self) -> str:
        """Read a character of a literal or a class, escaped or not."""
        character = self._peek()
        if not character:
            raise self._wrong("the grammar ends within a text or a class")
        self._at += 1
        if character != "\\":
            return character
        kind = self._peek()
        self._at += 1
        if kind in _ESCAPES:
            return _ESCAPES[kind]
        length = _HEX_LENGTHS.get(kind, 0)
        digits = self._source[self._at : self._at + length]
        if not re.fullmatch(r"[0-9A-Fa-f]{2,}", digits) or len(digits) != length:
            raise self._wrong(f"unknown escape \\{kind}", self._at - 2)
        self._at += length
        code = int(digits, 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise self._wrong(f"\\{kind}{digits} is no character", self._at - length - 2)
        return chr(code)

    def _wrong(self, what: str, place: int | None = None) -> RequestError:
        before = self._source[: self._at if place is None else place]
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        return RequestError(f"the grammar can't be read: {what} (line {line}, column {column})", "grammar")


def _escaped(character: str) -> str:
    return f"\\x{{{ord(character):X}}}"
