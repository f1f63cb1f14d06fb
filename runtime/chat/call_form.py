"""How a model writes tool calls, learnt from its chat template.

The template of a model that was trained with tools writes down the calls of earlier turns as the model writes them.
So a probe conversation with a call of known name and arguments is rendered, and one with a plain answer in its place;
where the two differ stands the call, and what stands around the known words is the model's own spelling of it:

    <tool_call>\\n{"name": "  NAME  ", "arguments":  ARGUMENTS  }\\n</tool_call>
    `------- opening ------'      `--- middle ---'           `--- closing ----'

A second call in the same message shows what stands between two. Arguments are an object of JSON, or each is written by
itself between marks of its own (`<parameter=KEY>VALUE</parameter>`), which calls with none, one and two arguments show.
No family of models is named here; a template whose calls can't be understood so (`get(x="…")`) counts as one that knows
no tools, and its model is asked for `GENERIC` calls instead.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from runtime.chat.conversation import Tool
from runtime.chat.messages import Message, Role, ToolCall
from runtime.chat.template import ChatTemplate, MessageFormat
from runtime.errors import RequestError


class Placeholder(Enum):
    """What stands inside a call's marks and is the model's to choose."""

    ID = "id"
    NUMBER = "number"  # which of the message's calls it is


Text = tuple["str | Placeholder", ...]


@dataclass(frozen=True, slots=True)
class TaggedArguments:
    """Each argument by itself: `key_opening` KEY `value_opening` VALUE `value_closing`.

    Texts stand there as they are, everything else as JSON.
    """

    key_opening: str
    value_opening: str
    value_closing: str


@dataclass(frozen=True, slots=True)
class CallForm:
    """What stands before a call's name, between it and the arguments, between two calls, and after the last.

    `between` None: a message has one call only. `arguments` None: they are an object of JSON.
    """

    opening: Text
    middle: Text
    between: Text | None
    closing: Text
    arguments: TaggedArguments | None = None

    @property
    def texts(self) -> tuple[Text, ...]:
        """Everything of the model's own spelling."""
        tags = self.arguments
        around = (tags.key_opening, tags.value_opening, tags.value_closing) if tags else ()
        return self.opening, self.middle, self.between or (), self.closing, around

    @property
    def mark(self) -> str:
        """What shows that a call begins and is nothing else; empty when a call could also be the answer's own text."""
        first = self.opening[0] if self.opening else ""
        found = _MARK.match(first) if isinstance(first, str) else None
        return found[0] if found else ""


@dataclass(frozen=True, slots=True)
class LearntForm:
    """A form, how messages are written down for the template, and whether the template describes tools to the model."""

    form: CallForm
    message_format: MessageFormat
    describes_tools: bool


GENERIC = CallForm(
    opening=('<tool_call>\n{"name": "',),
    middle=('", "arguments": ',),
    between=('}\n</tool_call>\n<tool_call>\n{"name": "',),
    closing=("}\n</tool_call>",),
)

_MARK = re.compile(r"<[^\s{}\"'<>]+>?|\[[A-Z_]+\]")
_ARGUMENTS = re.compile(r'\{\s*"zqkeya"\s*:\s*"zqvala"\s*\}')
_NAMES = ("zqfirst", "zqsecond", "zqthird")
_IDS = ("zqid00001", "zqid00002", "zqid00003")
_ANY_ID = re.compile("|".join(_IDS))
_NUMBER = re.compile(r"\d+")
_KEYS, _VALUES = ("zqkeya", "zqkeyb"), ("zqvala", "zqvalb")
# Its first and last letter stand in no call, so that it differs from any at once.
_CONTENT = "Ωzqcontent℧"
_USER, _PLAIN = Message(Role.USER, "zquser"), Message(Role.ASSISTANT, _CONTENT)
_PARAMETERS = {
    "type": "object",
    "properties": {key: {"type": "string", "description": "zq"} for key in _KEYS},
    "required": list(_KEYS),
}
_TOOLS = tuple(Tool(name, "zqdescription", _PARAMETERS) for name in _NAMES)


def learn_call_form(template: ChatTemplate) -> LearntForm | None:
    """Return how the template's model writes calls; None when the template doesn't know calls, or no such calls."""
    for message_format in (MessageFormat(), MessageFormat(no_text_is_null=True)):
        learnt = _learn(template, message_format)
        if learnt is not None:
            return learnt
    return None


def _learn(template: ChatTemplate, message_format: MessageFormat) -> LearntForm | None:
    probe = _Probe(template, message_format)
    try:
        written = probe.written([1])
    except RequestError:
        written = ""
    # Templates that want arguments as JSON text fail with an object, or write what Python calls it.
    if not written or repr(_arguments(1)) in written:
        message_format = replace(message_format, arguments_are_text=True)
        probe = _Probe(template, message_format)
    try:
        form = probe.json_form() or probe.tagged_form()
        if form is None or not probe.can_tell(form):
            return None
        described = template.render([_USER], tools=_TOOLS[:1], message_format=message_format)
    except RequestError:
        return None
    return LearntForm(form, message_format, _NAMES[0] in described)


class _Probe:
    """Renders calls with one template and takes the renderings apart. Everything raises RequestError as it does."""

    def __init__(self, template: ChatTemplate, message_format: MessageFormat) -> None:
        self._template = template
        self._message_format = message_format

    def json_form(self) -> CallForm | None:
        written = self.written([1])
        found = _ARGUMENTS.search(written)
        return self._form(written, found.start(), found.end(), None) if found else None

    def tagged_form(self) -> CallForm | None:
        """The same for arguments by themselves, which are found by what more or fewer of them change."""
        one, two, none = self.written([1]), self.written([2]), self.written([0])
        call = re.search(f"{_NAMES[0]}(.*?){_KEYS[0]}(.*?){_VALUES[0]}(.*)", one, re.DOTALL)
        next_one = re.search(f"{_VALUES[0]}(.*?){_KEYS[1]}", two, re.DOTALL)
        without = none.partition(_NAMES[0])[2]
        if call is None or next_one is None:
            return None
        before_key, value_opening, after_value = call.groups()
        middle = _whole_marks(_common_beginning(before_key, without))
        value_closing = _whole_marks(_common_beginning(next_one[1], after_value))
        key_opening, closing = before_key[len(middle) :], after_value[len(value_closing) :]
        is_regular = next_one[1] == value_closing + key_opening and without == middle + closing
        is_tagged = key_opening.strip() and value_closing.strip() and not value_opening.endswith('"')
        if not (is_regular and is_tagged) or _KEYS[0] in value_closing:
            return None
        tags = TaggedArguments(key_opening, value_opening, value_closing)
        return self._form(one, call.start(1) + len(middle), call.start(3) + len(value_closing), tags)

    def _form(self, one: str, begin: int, end: int, tags: TaggedArguments | None) -> CallForm | None:
        """Return the form of a call whose arguments are `one[begin:end]`."""
        name = one.rfind(_NAMES[0], 0, begin)
        if name < 0:
            return None
        middle = one[name + len(_NAMES[0]) : begin]
        between, is_numbered = self._between(one[begin:end])
        return CallForm(
            opening=_with_placeholders(one[:name].lstrip()),
            middle=_with_placeholders(middle, numbers=is_numbered),
            between=between,
            closing=_with_placeholders(one[end:].rstrip()),
            arguments=tags,
        )

    def _between(self, arguments: str) -> tuple[Text | None, bool]:
        """Return what stands between two calls, and whether calls are numbered.

        None when a template doesn't write several, or not all alike.
        """
        try:
            written = self.written([1, 1, 1])
        except RequestError:
            return None, False
        call = "(.*?)".join(map(re.escape, (_NAMES[0], arguments, _NAMES[1], arguments, _NAMES[2], arguments)))
        found = re.search(call, written, re.DOTALL)
        if found is None:
            return None, False
        texts = [_ANY_ID.sub(_IDS[0], text) for text in found.groups()]
        middles, gaps = texts[::2], texts[1::2]
        if len({*middles}) == len({*gaps}) == 1:
            return _with_placeholders(gaps[0]), False
        if len({_NUMBER.sub("", text) for text in middles}) == len({_NUMBER.sub("", text) for text in gaps}) == 1:
            return _with_placeholders(gaps[0], numbers=len({*gaps}) > 1), len({*middles}) > 1
        return None, False

    def can_tell(self, form: CallForm) -> bool:
        """Whether a call's beginning shows that it is one: it is there, the same for all calls, and ends no text."""
        first = form.opening[0] if form.opening else ""
        if not isinstance(first, str) or not first or _NAMES[0] in first:
            return False
        return not form.mark or form.mark not in self._render(_PLAIN).partition(_CONTENT)[2]

    def written(self, counts: list[int]) -> str:
        """Return what a message with calls of so many arguments each has, and one with a text hasn't."""
        calls = tuple(
            ToolCall(_IDS[index], _NAMES[index], json.dumps(_arguments(count))) for index, count in enumerate(counts)
        )
        called = self._render(Message(Role.ASSISTANT, tool_calls=calls))
        plain = self._render(_PLAIN)
        begin = len(_whole_marks(_common_beginning(called, plain)))
        num_after = len(_common_beginning(called[begin:][::-1], plain[begin:][::-1]))
        end = len(called) - num_after
        if _whole_marks(called[begin:end]) != called[begin:end]:  # in the middle of a mark that ends as another does
            end = called.find(">", end) + 1 or len(called)
        return called[begin:end]

    def _render(self, message: Message) -> str:
        return self._template.render(
            [_USER, message], tools=_TOOLS, adds_generation_prompt=False, message_format=self._message_format
        )


def _arguments(count: int) -> dict[str, str]:
    return dict(list(zip(_KEYS, _VALUES, strict=True))[:count])


def _common_beginning(one: str, other: str) -> str:
    count = next((n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    return min(one, other, key=len) if count is None else one[:count]


def _whole_marks(text: str) -> str:
    """Return a text without the mark that it ends in the middle of."""
    last = text.rfind("<")
    return text[:last] if last > text.rfind(">") else text


def _with_placeholders(text: str, *, numbers: bool = False) -> Text:
    return tuple(_split(text, numbers))


def _split(text: str, numbers: bool) -> Iterator["str | Placeholder"]:
    pattern = f"({_ANY_ID.pattern}{'|' + _NUMBER.pattern if numbers else ''})"
    for index, part in enumerate(re.split(pattern, text)):
        if index % 2:
            yield Placeholder.ID if _ANY_ID.fullmatch(part) else Placeholder.NUMBER
        elif part:
            yield part
