"""The grammar of an answer that may or must call tools.

It is llguidance's Lark, since that takes JSON schemas inside and knows control tokens by their ids:

    start: THOUGHT? (calls | answer)                  where an answer must be one of these from its first token on
    calls: OPENING call (BETWEEN call)* CLOSING       each call: a name, and arguments as that tool's schema has them

An answer that may call tools but needn't is free until it contains what begins a call; the grammar is lazy then.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from runtime.chat.call_form import CallForm, Placeholder, TaggedArguments, Text
from runtime.chat.calls import PLACEHOLDER_PATTERNS, arguments_of, beginnings, text_arguments
from runtime.chat.conversation import Tool
from runtime.chat.reasoning import Stage, ThinkingState
from runtime.engine.policy import schema
from runtime.engine.values.grammar import Grammar, GrammarKind, Span

# A mark to its id where it is a control token of the model's.
FindControl = Callable[[str], "int | None"]
_MARK = re.compile(r"(<[^<>\s]+>|\[/?[A-Z_]+\])")
_BEFORE = {Stage.POSSIBLE: "thought? ", Stage.BEGUN: "thought ", Stage.ENDED: "SPACE "}
# With one of these, arguments may have names that "properties" doesn't list.
_JOINING = {"$ref", "anyOf", "oneOf", "allOf", "patternProperties"}


@dataclass(frozen=True, slots=True)
class Calls:
    """Which tools an answer may call, and how calls are written."""

    form: CallForm
    tools: tuple[Tool, ...]
    is_parallel: bool


class GrammarWriter:
    """Writes grammars for one model. `end_tokens` are those that end its answers: nothing comes after them."""

    def __init__(self, find_control: FindControl, end_tokens: Sequence[int]) -> None:
        self._find_control = find_control
        self._end_tokens = frozenset(end_tokens)

    def control_tokens(self, *texts: Text) -> frozenset[int]:
        """Return the control tokens among the marks in some texts."""
        return frozenset(piece for text in texts for piece in self._pieces(text) if isinstance(piece, int))

    def strict(self, *, calls: Calls | None, answer: Grammar | None, thinking: ThinkingState | None) -> Grammar:
        """Return the grammar of an answer that is calls, or of the form of `answer`, from its first token on."""
        rules: list[str] = []
        if calls is not None:
            rules += self._calls(calls)
        if answer is not None:
            opening = thinking.marks.answer_opening if thinking else ""
            before = f"({self._literal((opening,))})? " if opening else ""
            rules.append(f"answer: {before}form\nform: %json {schema.checked(answer.source)}")
        choices = " | ".join([*(["calls"] if calls else []), *(["answer"] if answer else [])])
        before = ""
        if thinking is not None:
            before = _BEFORE[thinking.stage]
            rules += self._thinking(thinking)
        return _lark(f"{before}({choices})", rules)

    def lazy(self, calls: Calls, thinking: ThinkingState | None) -> Grammar:
        """Return the grammar of an answer that is free until it calls a tool."""
        grammar = _lark("calls", self._calls(calls))
        tokens = self.control_tokens((calls.form.mark,))
        return Grammar(
            grammar.kind,
            grammar.source,
            triggers=() if tokens else beginnings(calls.form, calls.tools),
            trigger_tokens=tokens,
            skipped=_skipped(thinking) if thinking else None,
        )

    def _thinking(self, thinking: ThinkingState) -> Iterator[str]:
        yield r"SPACE: /[ \n]{0,4}/"
        if thinking.stage is Stage.ENDED:
            return
        opening = "" if thinking.is_begun else self._literal((thinking.marks.opening,))
        yield f"thought: {opening} {self._up_to('thinking', thinking.marks.closing)} SPACE"
        yield from self._up_to_rules("thinking", thinking.marks.closing)

    def _up_to(self, name: str, closing: str) -> str:
        """Return Lark for any text up to a mark and that, which `_up_to_rules` give the rules for."""
        return f"{name} {self._literal((closing,))}" if self.control_tokens((closing,)) else name

    def _up_to_rules(self, name: str, closing: str) -> Iterator[str]:
        if self.control_tokens((closing,)):
            yield rf"{name}: /(.|\n)*/"
        else:
            yield rf"{name}[lazy]: /(.|\n)*{_regex(closing)}/"

    def _calls(self, calls: Calls) -> Iterator[str]:
        form = calls.form
        more = ""
        if calls.is_parallel and form.between is not None:
            more = f"({self._literal(form.between)} call)*"
        yield f"calls: {self._literal(form.opening)} call {more} {self._literal(form.closing)}"
        yield "call: " + " | ".join(f"call_{index}" for index in range(len(calls.tools)))
        for index, tool in enumerate(calls.tools):
            yield f"call_{index}: {self._literal((tool.name, *form.middle))} arguments_{index}"
            if form.arguments is None:
                yield f"arguments_{index}: %json {arguments_schema(tool)}"
            else:
                yield from self._tagged_arguments(form.arguments, tool, f"arguments_{index}")

    def _tagged_arguments(self, tags: TaggedArguments, tool: Tool, rule: str) -> Iterator[str]:
        """Yield the rules of arguments one by one, in the schema's order."""
        described = json.loads(arguments_schema(tool))
        properties = arguments_of(tool)
        required = described.get("required")
        required = required if isinstance(required, list) else []
        names = [f"{rule}_{index}" + ("" if key in required else "?") for index, key in enumerate(properties)]
        yield f"{rule}: {' '.join(names) or _quoted('')}"
        definitions = {name: described[name] for name in ("$defs", "definitions") if name in described}
        for index, (key, value) in enumerate(properties.items()):
            name = f"{rule}_{index}"
            head = self._literal((tags.key_opening, key, tags.value_opening))
            closing = self._literal((tags.value_closing,))
            if key not in text_arguments(tool):
                yield f"{name}: {head} {name}_value {closing}"
                yield f"{name}_value: %json {schema.relaxed({**value, **definitions})}"
            elif isinstance(value.get("enum"), list) and value["enum"]:
                allowed = (self._literal((each, tags.value_closing)) for each in value["enum"] if isinstance(each, str))
                yield f"{name}: {head} ({' | '.join(allowed) or _quoted('')})"
            else:
                yield f"{name}: {head} {self._up_to(f'{name}_text', tags.value_closing)}"
                yield from self._up_to_rules(f"{name}_text", tags.value_closing)

    def _literal(self, text: Text) -> str:
        """Return Lark for a text: strings, control tokens, and what placeholders may be filled with.

        What is text in one piece must be one string: llguidance's lexer takes the longest that fits so far and never
        goes back, so of "\\n" "</b>" and "\\n<a>" only the latter could come.
        """
        written: list[str] = []
        for is_text, pieces in groupby(self._pieces(text), key=lambda piece: isinstance(piece, str)):
            if is_text:
                written.append(_quoted("".join(map(str, pieces))))
            else:
                written += (
                    f"/{PLACEHOLDER_PATTERNS[each]}/" if isinstance(each, Placeholder) else f"<[{each}]>"
                    for each in pieces
                )
        return " ".join(written) or _quoted("")

    def _pieces(self, text: Text) -> Iterator[str | Placeholder | int]:
        """Yield what a text is made of, control tokens by their ids, up to one that ends the answer."""
        for part in text:
            if isinstance(part, Placeholder):
                yield part
                continue
            for piece in filter(None, _MARK.split(part)):
                token = self._find_control(piece) if _MARK.fullmatch(piece) else None
                if token in self._end_tokens:
                    return
                yield piece if token is None else token


def arguments_schema(tool: Tool) -> str:
    """Return the JSON schema of a tool's arguments as llguidance is to see it. Raises RequestError for a strict one
    that can't be held to.

    Only arguments that the schema names are allowed, unless it says that others are.
    """
    described = {"type": "object", **(tool.parameters or {"properties": {}})}
    if "properties" in described and not _JOINING & described.keys():
        described = {"additionalProperties": False, **described}
    return schema.checked(json.dumps(described)) if tool.is_strict else schema.relaxed(described)


def loosened(tool: Tool) -> Tool:
    """Return the tool with a schema of its arguments that says no more than which there are, and which are texts."""
    texts = text_arguments(tool)
    properties = {name: {"type": "string"} if name in texts else {} for name in arguments_of(tool)}
    return replace(tool, parameters={"properties": properties} if properties else {"type": "object"})


def _skipped(thinking: ThinkingState) -> Span:
    return Span(thinking.marks.opening, thinking.marks.closing, is_begun=thinking.is_begun)


def _lark(start: str, rules: Iterable[str]) -> Grammar:
    return Grammar(GrammarKind.LARK, "\n".join([f"start: {start}", *rules]))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _regex(text: str) -> str:
    return re.escape(text).replace("/", r"\/").replace("\\\n", r"\n")
