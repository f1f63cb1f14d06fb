"""llama.cpp's GBNF, read and written anew as a grammar of llguidance. Pure text to text.

llama.cpp's own sampler keeps every way in which the text so far can be read as a stack of its own. There are small
grammars that need more memory than any computer has (`root ::= e root "x" | "y"` with an `e` that can be empty, say),
and nothing can stop it half way. llguidance's parser shares what the readings have in common, and has limits.

Which tokens may come next is the same, so a seed gives the text that llama-server gives. For that nothing may be
matched greedily, or a grammar like `[a-z]* "x"` would not find its end. Two ways are exact: a grammar that doesn't
recur is one regular expression as a whole, which also makes light of its ambiguities; in any other, each character is a
lexeme of its own.

Syntax as in llama.cpp's `grammars/README.md`, quirks as in its `llama-grammar.cpp`.
"""

import re
from collections.abc import Callable, Iterator
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
class _Lexeme:
    """A character, a class of characters, or nothing, in Lark."""

    lark: str


@dataclass(frozen=True, slots=True)
class _Token:
    """One token of the vocabulary, or any but one, in Lark."""

    lark: str


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str


@dataclass(frozen=True, slots=True)
class _Group:
    alternatives: "tuple[_Sequence, ...]"


@dataclass(frozen=True, slots=True)
class _Repeated:
    item: "_Item"
    times: str


_Item = _Lexeme | _Token | _Rule | _Group | _Repeated
_Sequence = tuple[_Item, ...]


def to_lark(source: str, find_token: FindToken) -> str:
    """Return the grammar as Lark; its start rule is `start`.

    `find_token` returns the one token that a text like `<think>` is, if it is one. Raises RequestError that names the
    line for anything that isn't GBNF.
    """
    rules = {name: _without_last_recursion(name, group) for name, group in _Reader(source, find_token).read().items()}
    # Lark takes rules with upper case names for regular expressions. A GBNF name may begin with a digit.
    letter = "R" if _is_regular(rules) else "r"
    names = {name: f"{letter}{number}" for number, name in enumerate(rules)}
    lines = [f"{names[name]}: {_written(group, names)}" for name, group in rules.items()]
    return "\n".join([f"start: {names['root']}", *lines]) + "\n"


def _without_last_recursion(name: str, group: _Group) -> _Group:
    """Turn a rule that goes on by naming itself last into a repetition, which costs the parser far less."""
    again = tuple(items[:-1] for items in group.alternatives if items[-1:] == (_Rule(name),))
    ends = tuple(items for items in group.alternatives if items[-1:] != (_Rule(name),))
    if not again or not ends:
        return group
    return _Group(((_Repeated(_Group(again), "*"), _Group(ends)),))


def _is_regular(rules: dict[str, _Group]) -> bool:
    """Whether no rule comes to name itself and no token stands for more than its text."""
    if any(isinstance(item, _Token) for group in rules.values() for item in _leaves(group)):
        return False
    ahead = {name: {item.name for item in _leaves(group) if isinstance(item, _Rule)} for name, group in rules.items()}
    path = ["root"]
    is_on_path = dict.fromkeys(rules, False) | {"root": True}  # and no longer a key when all below has been seen
    while path:
        name = path[-1]
        if not ahead[name]:
            del is_on_path[path.pop()]
            continue
        following = ahead[name].pop()
        if is_on_path.get(following):
            return False
        if following in is_on_path:
            is_on_path[following] = True
            path.append(following)
    return True


def _leaves(item: _Item) -> Iterator[_Item]:
    match item:
        case _Group(alternatives):
            for items in alternatives:
                for each in items:
                    yield from _leaves(each)
        case _Repeated(inner):
            yield from _leaves(inner)
        case _:
            yield item


def _written(item: _Item, names: dict[str, str]) -> str:
    match item:
        case _Lexeme(lark) | _Token(lark):
            return lark
        case _Rule(name):
            return names[name]
        case _Group(alternatives):
            written = (" ".join(_written(each, names) for each in items) or _NOTHING for items in alternatives)
            return f"({' | '.join(written)})"
        case _Repeated(inner, times):
            return f"({_written(inner, names)}){times}"


class _Reader:
    """A recursive descent through one grammar."""

    def __init__(self, source: str, find_token: FindToken) -> None:
        self._source = source
        self._find_token = find_token
        self._at = 0
        self._depth = 0
        self._uses: dict[str, int] = {}  # where each rule is named for the first time

    def read(self) -> dict[str, _Group]:
        rules: dict[str, _Group] = {}
        self._skip(_SPACE_AND_LINES)
        while self._at < len(self._source):
            name = self._expect_name()
            self._skip(_SPACE)
            self._expect("::=")
            self._skip(_SPACE_AND_LINES)
            rules[name] = self._alternatives(_SPACE)
            if self._peek() not in ("", "\r", "\n"):
                raise self._wrong("the rule should end here")
            self._skip(_SPACE_AND_LINES)
        if "root" not in rules:
            raise RequestError("the grammar has no rule 'root', where the text begins", "grammar")
        for name, place in self._uses.items():
            if name not in rules:
                raise self._wrong(f"there is no rule {name!r}", place)
        return rules

    def _alternatives(self, space: "re.Pattern[str]") -> _Group:
        alternatives = [self._sequence(space)]
        while self._peek() == "|":
            self._at += 1
            self._skip(_SPACE_AND_LINES)
            alternatives.append(self._sequence(space))
        return _Group(tuple(alternatives))

    def _sequence(self, space: "re.Pattern[str]") -> _Sequence:
        items: list[_Item] = []
        while True:
            character = self._peek()
            if character in ("*", "+", "?", "{"):
                if not items or isinstance(items[-1], _Repeated):
                    raise self._wrong(f"there is nothing before {character!r} to repeat")
                items[-1] = _Repeated(items[-1], self._times())
            else:
                item = self._item()
                if item is None:
                    return tuple(items)
                items.append(item)
            self._skip(space)

    def _item(self) -> _Item | None:
        character = self._peek()
        if character == '"':
            return self._literal()
        if character == "[":
            return self._class()
        if character == ".":
            self._at += 1
            return _Lexeme(_ANY)
        if character == "(":
            return self._group()
        if character in ("<", "!"):
            return self._token()
        if _NAME.match(character):
            place = self._at
            name = self._expect_name()
            self._uses.setdefault(name, place)
            return _Rule(name)
        return None

    def _literal(self) -> _Item:
        self._at += 1
        characters: list[_Item] = []
        while self._peek() != '"':
            characters.append(_Lexeme(f"/{_escaped(self._character())}/"))
        self._at += 1
        return characters[0] if len(characters) == 1 else _Group((tuple(characters),))

    def _class(self) -> _Item:
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
        return _Lexeme(f"/[{negation}{''.join(ranges)}]/" if ranges else _NOTHING)

    def _group(self) -> _Group:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._wrong(f"groups are nested more than {_MAX_DEPTH} deep")
        self._at += 1
        self._skip(_SPACE_AND_LINES)
        group = self._alternatives(_SPACE_AND_LINES)
        self._expect(")")
        self._depth -= 1
        return group

    def _token(self) -> _Token:
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
        return _Token(f"<[{negation}{token}]>")

    def _times(self) -> str:
        sign = self._peek()
        place = self._at
        self._at += 1
        if sign != "{":
            return sign
        self._skip(_SPACE_AND_LINES)
        match = _BOUNDS.match(self._source, self._at)
        if match is None:
            raise self._wrong("a repetition is written {n}, {n,} or {n,m}", place)
        low = _count(match[1])
        high = low if not match[2] else _count(match[3]) if match[3] else None
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


def _count(digits: str) -> int:
    """Return a number, and of a longer one than any that is allowed its first digits: Python reads 4,300 at most."""
    return int(digits.lstrip("0")[:10] or "0")


def _escaped(character: str) -> str:
    return f"\\x{{{ord(character):X}}}"
