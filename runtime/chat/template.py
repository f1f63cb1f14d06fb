"""Messages to a prompt, by the chat template that the model's GGUF carries.

The template is Jinja in the dialect that Hugging Face's `apply_chat_template` and llama.cpp share: `trim_blocks`,
`lstrip_blocks`, the loop controls, and a few functions of their own. It comes with the model, so it runs in Jinja's
immutable sandbox: it reaches no attribute that starts with an underscore, loops over at most 100,000 numbers, and
here writes at most `_MAX_PROMPT_CHARS`. A loop that writes nothing is not bounded; whoever packs a model vouches for
it that far.

Knows no tokens: whether the tokenizer adds BOS itself is the caller's question, see `without_bos`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from runtime.chat.conversation import Tool
from runtime.chat.messages import Message, Role, ToolCall
from runtime.errors import RequestError

if TYPE_CHECKING:
    from jinja2 import Environment, Template

# For models without a template, as llama.cpp does.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# A body of 32 MiB is the most that a request brings; templates add little to it.
_MAX_PROMPT_CHARS = 64 * 1024 * 1024
_SHORT_ID = re.compile("[A-Za-z0-9]{9}")  # the only ids of tool calls that Mistral's templates take


@dataclass(frozen=True, slots=True)
class MessageFormat:
    """What templates disagree on: how a message is to be written down for this one.

    Arguments of calls as objects or as JSON text, contents as texts or as lists of parts, no text as "" or as null.
    """

    arguments_are_text: bool = False
    content_is_list: bool = False
    no_text_is_null: bool = False


class ChatTemplate(Protocol):
    """What makes a prompt of messages, as its source says; may be used from any thread."""

    @property
    def source(self) -> str:
        """The template as text, or its name."""

    def __hash__(self) -> int:
        """Tell templates apart: what is learnt of one is kept."""

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        variables: Mapping[str, Any] | None = None,
        adds_generation_prompt: bool = True,
        message_format: MessageFormat = MessageFormat(),
    ) -> str:
        """Return the prompt; with `adds_generation_prompt`, the one that asks for the assistant's next message.

        Raises RequestError when the template refuses the conversation.
        """


class JinjaTemplate:
    """A compiled template."""

    def __init__(self, source: str, template: "Template", bos_token: str, eos_token: str) -> None:
        self.source = source
        self._template = template
        self._bos_token = bos_token
        self._eos_token = eos_token

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        variables: Mapping[str, Any] | None = None,
        adds_generation_prompt: bool = True,
        message_format: MessageFormat = MessageFormat(),
    ) -> str:
        """Return the prompt, as `ChatTemplate` has it.

        A template that refuses system messages gets their text at the head of the first user message instead.
        """
        from jinja2 import TemplateError

        described = [_tool_json(tool) for tool in tools]
        values = {
            # What templates use that were written before there were `tools` and `strftime_now`.
            "functions": json.dumps(described, ensure_ascii=False, indent=4),
            "datetime": _strftime_now("%b %d %Y %H:%M:%S"),
            "date_string": _strftime_now("%d %b %Y"),
            **(variables or {}),
            "tools": described or None,
            "add_generation_prompt": adds_generation_prompt,
            "bos_token": self._bos_token,
            "eos_token": self._eos_token,
        }
        try:
            return self._render(_messages_json(messages, message_format), values)
        except TemplateError as refusal:
            folded = _fold_system(messages)
            if folded is not None:
                try:
                    return self._render(_messages_json(folded, message_format), values)
                except TemplateError:
                    pass  # the system message wasn't the reason, so the first refusal is the one to report
            raise RequestError(_sentence(refusal), "messages") from refusal
        except Exception as fault:  # a template is a program; any exception in it rejects the conversation
            raise RequestError(_sentence(fault), "messages") from fault

    def _render(self, messages: list[dict[str, Any]], values: Mapping[str, Any]) -> str:
        values = {**values, "messages": messages}
        try:
            return self._generate(values)
        except TypeError:
            if values["tools"] is not None:
                raise
            # Some templates loop over the tools without a look whether there are any; others take [] for some.
            return self._generate({**values, "tools": []})

    def _generate(self, values: Mapping[str, Any]) -> str:
        from jinja2.exceptions import SecurityError

        pieces: list[str] = []
        num_chars = 0
        for piece in self._template.generate(values):
            num_chars += len(piece)
            if num_chars > _MAX_PROMPT_CHARS:
                raise SecurityError(f"it writes more than {_MAX_PROMPT_CHARS} characters")
            pieces.append(piece)
        return "".join(pieces)


@lru_cache(maxsize=8)
def load_template(source: str | None, bos_token: str, eos_token: str) -> JinjaTemplate:
    """Return the compiled template, ChatML for None. Raises RequestError when it isn't a template."""
    from jinja2 import TemplateError

    try:
        template = _environment().from_string(source or CHATML)
    except TemplateError as error:
        raise RequestError(_sentence(error)) from error
    return JinjaTemplate(source or CHATML, template, bos_token, eos_token)


def without_bos(prompt: str, bos_token: str, *, adds_bos: bool) -> str:
    """Return the prompt less the BOS that its template wrote, when the tokenizer is going to add one as well."""
    return prompt.removeprefix(bos_token) if adds_bos else prompt


def _messages_json(messages: Sequence[Message], message_format: MessageFormat) -> list[dict[str, Any]]:
    called = {call.id: call.name for message in messages for call in message.tool_calls}
    return [_message_json(message, message_format, called) for message in messages]


def _message_json(message: Message, message_format: MessageFormat, called: Mapping[str, str]) -> dict[str, Any]:
    """Return a message as templates know it. `called` are the tools' names by the ids of the calls."""
    written: dict[str, Any] = {"role": message.role.value, "content": message.text}
    if message_format.content_is_list:
        written["content"] = [{"type": "text", "text": message.text}]
    if message.reasoning:
        written["reasoning_content"] = message.reasoning
        if not (message.tool_calls and message.text):  # one template has no place for all three
            written["thinking"] = message.reasoning
    if message.tool_calls:
        written["tool_calls"] = [_call_json(call, message_format) for call in message.tool_calls]
        if message_format.no_text_is_null and not message.text:
            written["content"] = None
    name = message.name or called.get(message.tool_call_id, "")
    if name:
        written["name"] = name
    if message.role is Role.TOOL:
        written["tool_call_id"] = _short_id(message.tool_call_id)
    return written


def _call_json(call: ToolCall, message_format: MessageFormat) -> dict[str, Any]:
    arguments = call.arguments if message_format.arguments_are_text else json.loads(call.arguments)
    return {"type": "function", "id": _short_id(call.id), "function": {"name": call.name, "arguments": arguments}}


def _short_id(call_id: str) -> str:
    """Return an id that every template takes, the same one for the same call."""
    return call_id if _SHORT_ID.fullmatch(call_id) else hashlib.sha256(call_id.encode()).hexdigest()[:9]


def _tool_json(tool: Tool) -> dict[str, Any]:
    described = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": described}


def _fold_system(messages: Sequence[Message]) -> list[Message] | None:
    """Return the messages with all system text ahead of the first user message; None when there is none to move."""
    system = "\n\n".join(message.text for message in messages if message.role is Role.SYSTEM)
    rest = [message for message in messages if message.role is not Role.SYSTEM]
    first_user = next((index for index, message in enumerate(rest) if message.role is Role.USER), None)
    if len(rest) == len(messages) or first_user is None:
        return None
    rest[first_user] = replace(rest[first_user], text=f"{system}\n\n{rest[first_user].text}")
    return rest


def _sentence(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return f"the model's chat template can't render this conversation: {words}"


@cache
def _environment() -> "Environment":
    from jinja2 import TemplateError, nodes
    from jinja2.exceptions import SecurityError
    from jinja2.ext import Extension, LoopControlExtension
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks the assistant's words for training; here it is only its contents."""

        tags = {"generation"}  # noqa: RUF012  (Jinja's own declaration is an instance attribute)

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    class Sandbox(ImmutableSandboxedEnvironment):
        """The sandbox, with multiplication watched: `"a" * 10**12` would take all memory in one expression."""

        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" and (abs(left) > 2**32 or abs(right) > 64):
                raise SecurityError("it computes with numbers that are too large")
            if operator == "*":
                for sequence, times in ((left, right), (right, left)):
                    if isinstance(sequence, (str, list, tuple)) and len(sequence) * times > _MAX_PROMPT_CHARS:
                        raise SecurityError("it repeats a text too often")
            return super().call_binop(context, operator, left, right)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[LoopControlExtension, Generation])
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes <, >, & and ' for HTML, which models have never seen.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)
