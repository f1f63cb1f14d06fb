"""Names of control tokens in texts of a request, kept apart from those that the chat template writes.

A prompt is tokenized so that the template's `<|im_end|>` is the token that ends a turn. Were the same name in a
user's text that token, too, the text could end the user's turn, open a system's or forge a tool's result.

Only the template knows where a text goes, and it may trim, cut or escape it. So a name in a text gives its place to a
stand-in, one character that the prompt doesn't have, and the template renders the texts with stand-ins. What is left
of a stand-in's segment, which goes from one control token to the next, is then tokenized as plain text, with the name
back in its place: the very tokens of that segment in a vocabulary where the name is no token. All other segments are
tokenized as ever. If the template minds the name itself, or doesn't leave the stand-in as it is, putting the names back
doesn't give the prompt that it renders of the texts as they came. Then each name gets an invisible character into its
middle instead.

Nearly no text has such a name. For all others nothing changes but that they are searched.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from typing import Any

from runtime.chat.conversation import Conversation, Tool
from runtime.chat.messages import Message, Role, ToolCall
from runtime.engine.interface import AnyVocabulary
from runtime.engine.values.facts import ControlToken
from runtime.engine.values.request import TextPart

_FOR_STAND_INS = range(0xF0000, 0xFFFFE)  # a plane for private use: no text means anything by it
_WORD_JOINER = "\u2060"  # invisible, and no place to break a line at
_SPACE = " \t\n\v\f\r"  # what C calls so
# Deeper than that, names aren't told apart letter by letter: each level is a level of recursion, too.
_MAX_DEPTH = 32
_NUM_CHARS_AT_ONCE = 1 << 16  # a few milliseconds at worst

Rename = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class ControlNames:
    """The names of a vocabulary's control tokens, and a pattern that finds the longest of them at each place."""

    tokens: Mapping[str, ControlToken]
    pattern: re.Pattern[str]

    def find_all(self, text: str) -> Iterator[re.Match[str]]:
        """Yield where the names are in a text, which is searched in pieces: Python's other threads wait for each."""
        longest = max(map(len, self.tokens), default=0)
        begin = 0
        while begin < len(text):
            end = begin + _NUM_CHARS_AT_ONCE
            found = self.pattern.search(text, begin, end + longest)
            if found is None or found.start() >= end:  # there a longer name may be cut off
                begin = end
            else:
                yield found
                begin = found.end()

    def within(self, texts: Iterable[Iterable[object]]) -> frozenset[str]:
        """Return the names in some texts, given in pieces of which some may be none."""
        pieces = (piece for text in texts for piece in text if isinstance(piece, str))
        return frozenset(chain.from_iterable(map(self.pattern.findall, pieces)))

    def found_in(self, conversation: Conversation, kept: Set[str]) -> list[str]:
        """Return the names in a conversation's texts, of the assistant's texts those that aren't `kept`."""
        found: dict[str, None] = {}

        def note(name: str) -> str:
            found[name] = None
            return name

        self.renamed(conversation, note, kept)
        return list(found)

    def renamed(self, conversation: Conversation, rename: Rename, kept: Set[str]) -> Conversation:
        """Return a conversation with other names in all texts that the template sees, but in the assistant's `kept`."""

        plain = partial(self._renamed_in, rename)
        said = partial(self._renamed_in, lambda name: name if name in kept else rename(name))
        use = conversation.tool_use
        messages = (_renamed(m, said if m.role is Role.ASSISTANT else plain, plain) for m in conversation.messages)
        return replace(
            conversation,
            messages=tuple(messages),
            tool_use=replace(use, tools=tuple(_renamed_tool(tool, plain) for tool in use.tools)),
            variables=_renamed_json(conversation.variables, plain),
        )

    def guarded(self, texts: Sequence[str], template: str) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return texts that a template takes as they are with stand-ins in the places of names, and whose they are."""
        found = dict.fromkeys(match[0] for text in texts for match in self.find_all(text))
        stand_ins = stand_ins_for(found, "".join((template, *texts))) if found else {}
        characters = {name: character for character, name in stand_ins.items()}
        return [self._renamed_in(lambda name: characters.get(name, broken(name)), text) for text in texts], stand_ins

    def _renamed_in(self, rename: Rename, text: str) -> str:
        segments = self._segments(text)
        segments[1::2] = map(rename, segments[1::2])
        return "".join(segments)

    def _segments(self, text: str) -> list[str]:
        """Return a text cut at the names: text and name by turns."""
        segments, begin = [], 0
        for found in self.find_all(text):
            segments += [text[begin : found.start()], found[0]]
            begin = found.end()
        return [*segments, text[begin:]]

    def parts(self, prompt: str, stand_ins: Mapping[str, str]) -> list[TextPart]:
        """Return a prompt with the names back in the places of their stand-ins, cut so that they are plain text."""
        if not stand_ins:
            return [TextPart(prompt)]
        segments = self._segments(prompt)
        parts: list[TextPart] = []
        parsed: list[str] = []
        for index, segment in enumerate(segments):
            if index % 2 or not any(character in segment for character in stand_ins):
                parsed.append(segment)
                continue
            # As the tokenizer does around tokens that take the space beside them.
            if index and self.tokens[segments[index - 1]].strips_right:
                segment = segment.lstrip(_SPACE)
            if index + 1 < len(segments) and self.tokens[segments[index + 1]].strips_left:
                segment = segment.rstrip(_SPACE)
            parts += [TextPart("".join(parsed)), TextPart(restored(segment, stand_ins), parses_special=False)]
            parsed = []
        return [part for part in (*parts, TextPart("".join(parsed))) if part.text]


@lru_cache(maxsize=2)
def control_names(vocabulary: AnyVocabulary) -> ControlNames:
    """Return the names of an engine's control tokens. Blocks the first time; call from a thread."""
    # One character is no mark: it would be in every text.
    known = {token.name: token for token in vocabulary.control_tokens if len(token.name) > 1}
    return ControlNames(known, re.compile(f"({_any_of(known, _MAX_DEPTH)})" if known else "((?!))"))


def _any_of(names: Iterable[str], depth: int) -> str:
    """Return a pattern of names that looks at each letter once, however many begin alike; it takes the longest."""
    if not depth:
        return f"(?:{'|'.join(re.escape(name) for name in sorted(names, key=len, reverse=True))})"
    rests: dict[str, list[str]] = {}
    for name in names:
        rests.setdefault(name[:1], []).append(name[1:])
    is_optional = rests.pop("", None) is not None
    branches = [re.escape(first) + _any_of(rest, depth - 1) for first, rest in rests.items()]
    joined = branches[0] if len(branches) == 1 and not is_optional else f"(?:{'|'.join(branches)})"
    return f"{joined}?" if is_optional and branches else "" if is_optional else joined


def stand_ins_for(names: Iterable[str], prompt: str) -> dict[str, str]:
    """Return the names by characters that a prompt doesn't have; fewer than there are names where it has nearly all."""
    pieces = (prompt[begin : begin + _NUM_CHARS_AT_ONCE] for begin in range(0, len(prompt), _NUM_CHARS_AT_ONCE))
    taken: set[str] = set().union(*pieces)
    free: Iterator[str] = (chr(code) for code in _FOR_STAND_INS if chr(code) not in taken)
    return dict(zip(free, names, strict=False))


def restored(text: str, stand_ins: Mapping[str, str]) -> str:
    """Return a text with the names in the places of their stand-ins."""
    for character, name in stand_ins.items():
        text = text.replace(character, name)
    return text


def broken(name: str) -> str:
    """Return a name that looks like it and is none."""
    return name[0] + _WORD_JOINER + name[1:]


def _renamed(message: Message, own: Rename, plain: Rename) -> Message:
    return replace(
        message,
        text=own(message.text),
        reasoning=own(message.reasoning),
        name=plain(message.name),
        tool_calls=tuple(_renamed_call(call, plain) for call in message.tool_calls),
    )


def _renamed_call(call: ToolCall, plain: Rename) -> ToolCall:
    arguments = plain(call.arguments)
    if "\\" in arguments:  # which may hide a name from the search, but not from the template
        read = json.loads(arguments)
        arguments = arguments if (changed := _renamed_json(read, plain)) == read else json.dumps(changed)
    return replace(call, name=plain(call.name), arguments=arguments)


def _renamed_tool(tool: Tool, plain: Rename) -> Tool:
    parameters = _renamed_json(tool.parameters, plain)
    return replace(tool, name=plain(tool.name), description=plain(tool.description), parameters=parameters)


def _renamed_json(value: Any, plain: Rename) -> Any:
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, Mapping):
        return {plain(key): _renamed_json(each, plain) for key, each in value.items()}
    return [_renamed_json(each, plain) for each in value] if isinstance(value, list) else value
