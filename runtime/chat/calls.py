"""Tool calls read out of an answer while it is written. Pure.

What is read was written under the grammar of `runtime.chat.tools`, made of the same form, so it is taken at its word:
after what begins a call come a name, arguments, and either the next call or the end.
"""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any

from runtime.chat.answer import AnswerEvent, ArgumentsPart, CallBegun, CallEnded
from runtime.chat.call_form import CallForm, Placeholder, TaggedArguments, Text
from runtime.chat.conversation import Tool
from runtime.engine.policy.text import length_of_partial_end

# What a form's placeholders may be filled with, for this reader and for the grammar.
PLACEHOLDER_PATTERNS = {Placeholder.ID: "[A-Za-z0-9]{9}", Placeholder.NUMBER: "[0-9]+"}


class _State(Enum):
    HEAD = auto()  # from where a call begins up to its arguments
    ARGUMENTS = auto()
    AFTER = auto()


class CallReader:
    """Reads the calls of one answer."""

    def __init__(self, form: CallForm, tools: Sequence[Tool]) -> None:
        names = "|".join(re.escape(tool.name) for tool in sorted(tools, key=lambda tool: -len(tool.name)))
        self._form = form
        self._tools = {tool.name: tool for tool in tools}
        self._beginnings = beginnings(form, tools)
        head = f"({names}){_pattern(form.middle)}"
        self._first_head = re.compile(_pattern(form.opening) + head)
        self._next_head = None if form.between is None else re.compile(_pattern(form.between) + head)
        self._state = _State.HEAD
        self._arguments: _JsonArguments | _TaggedArguments | None = None
        self._num_calls = 0
        self._held = ""

    def find(self, text: str) -> int | None:
        """Return where in a text the first call begins."""
        places = [place for beginning in self._beginnings if (place := text.find(beginning)) >= 0]
        return min(places) if places else None

    def length_of_partial_end(self, text: str) -> int:
        """Return how long an end of the text is that may yet begin a call."""
        return max(length_of_partial_end(text, beginning) for beginning in self._beginnings)

    def feed(self, text: str) -> list[AnswerEvent]:
        """Take more of the text, which begins where the first call does."""
        self._held += text
        events: list[AnswerEvent] = []
        state = None
        while state is not self._state:
            state = self._state
            match state:
                case _State.HEAD | _State.AFTER:
                    events += self._begin()
                case _State.ARGUMENTS:
                    events += self._read_arguments()
        return events

    def finish(self) -> list[AnswerEvent]:
        """Return the events that the answer's end adds. A call that is cut off stays open."""
        if self._state is not _State.ARGUMENTS or self._arguments is None:
            return []
        rest = self._arguments.finish(self._held)
        index = self._num_calls - 1
        return [ArgumentsPart(index, rest), CallEnded(index)] if rest else []

    def _begin(self) -> list[AnswerEvent]:
        pattern = self._first_head if self._num_calls == 0 else self._next_head
        found = pattern.match(self._held) if pattern else None
        if found is None:
            return []
        name = found[1]
        self._held = self._held[found.end() :]
        self._state = _State.ARGUMENTS
        tags = self._form.arguments
        self._arguments = _TaggedArguments(tags, self._tools[name]) if tags else _JsonArguments()
        self._num_calls += 1
        return [CallBegun(self._num_calls - 1, f"call_{secrets.token_hex(12)}", name)]

    def _read_arguments(self) -> list[AnswerEvent]:
        assert self._arguments is not None
        index = self._num_calls - 1
        shown, self._held = self._arguments.feed(self._held)
        events: list[AnswerEvent] = [ArgumentsPart(index, shown)] if shown else []
        if self._arguments.is_complete:
            self._state = _State.AFTER
            events.append(CallEnded(index))
        return events


def beginnings(form: CallForm, tools: Sequence[Tool]) -> tuple[str, ...]:
    """Return the texts of which one begins every call, and nothing else: a mark, or else all up to the tools' names."""
    if form.mark:
        return (form.mark,)
    first = form.opening[0]
    assert isinstance(first, str)
    return tuple(first + (tool.name if len(form.opening) == 1 else "") for tool in tools)


def _pattern(text: Text) -> str:
    return "".join(PLACEHOLDER_PATTERNS[part] if isinstance(part, Placeholder) else re.escape(part) for part in text)


class _JsonArguments:
    """Finds the end of a JSON object."""

    _SIGNS = re.compile(r'["{}\[\]\\]')

    def __init__(self) -> None:
        self.is_complete = False
        self._depth = 0
        self._is_in_string = False
        self._is_escaped = False

    def feed(self, text: str) -> tuple[str, str]:
        """Return what of the text belongs to the object, and what comes after it."""
        place = 0
        while place < len(text):
            if self._is_escaped:
                self._is_escaped = False
                place += 1
                continue
            found = self._SIGNS.search(text, place)
            if found is None:
                return text, ""
            place = found.end()
            self._take(found[0])
            if self._depth == 0:
                self.is_complete = True
                return text[:place], text[place:]
        return text, ""

    def finish(self, text: str) -> str:
        return ""

    def _take(self, sign: str) -> None:
        if self._is_in_string:
            if sign == "\\":
                self._is_escaped = True
            elif sign == '"':
                self._is_in_string = False
        elif sign == '"':
            self._is_in_string = True
        elif sign in "{[":
            self._depth += 1
        elif sign in "}]":
            self._depth -= 1


class _TaggedArguments:
    """Makes a JSON object of arguments that are written one by one."""

    def __init__(self, tags: TaggedArguments, tool: Tool) -> None:
        self.is_complete = False
        self._tags = tags
        self._texts = text_arguments(tool)
        self._key = re.compile(f"{re.escape(tags.key_opening)}(.*?){re.escape(tags.value_opening)}", re.DOTALL)
        self._is_in_value = False
        self._is_text = False
        self._num_arguments = 0

    def feed(self, text: str) -> tuple[str, str]:
        """Return JSON for the part of the text that is certain by now, and the rest."""
        shown: list[str] = []
        while not self.is_complete:
            if self._is_in_value:
                part, text, is_over = self._value(text)
                shown.append(part)
                if not is_over:
                    break
                continue
            found = self._key.match(text)
            if found is not None:
                shown.append(self._begin_value(found[1]))
                text = text[found.end() :]
            elif not self._tags.key_opening.startswith(text[: len(self._tags.key_opening)]):
                shown.append(self._end())
                self.is_complete = True
            else:
                break
        return "".join(shown), text

    def finish(self, text: str) -> str:
        """Return the end of the JSON where the answer's end is the arguments' end, too."""
        return "" if self._is_in_value or text else self._end()

    def _end(self) -> str:
        return "}" if self._num_arguments else "{}"

    def _begin_value(self, key: str) -> str:
        before = ", " if self._num_arguments else "{"
        self._num_arguments += 1
        self._is_in_value = True
        self._is_text = key in self._texts
        return f"{before}{json.dumps(key)}: " + ('"' if self._is_text else "")

    def _value(self, text: str) -> tuple[str, str, bool]:
        value, found, rest = text.partition(self._tags.value_closing)
        if not found:
            num_kept = length_of_partial_end(text, self._tags.value_closing)
            value, rest = text[: len(text) - num_kept], text[len(text) - num_kept :]
        else:
            self._is_in_value = False
        if self._is_text:
            value = json.dumps(value, ensure_ascii=False)[1:-1] + ('"' if found else "")
        return value, rest, bool(found)


def text_arguments(tool: Tool) -> frozenset[str]:
    """Return the names of a tool's arguments that are texts, which tagged arguments show without quotation marks."""
    return frozenset(name for name, schema in arguments_of(tool).items() if schema.get("type") == "string")


def arguments_of(tool: Tool) -> dict[str, Mapping[str, Any]]:
    """Return the schemas of a tool's arguments by their names; an argument without a schema has an empty one."""
    properties = tool.parameters.get("properties")
    named = properties.items() if isinstance(properties, Mapping) else ()
    return {name: schema if isinstance(schema, Mapping) else {} for name, schema in named}
