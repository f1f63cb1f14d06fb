"""Messages to a prompt, by the chat template that the model's GGUF carries.

The template is Jinja in the dialect that Hugging Face's `apply_chat_template` and llama.cpp share: `trim_blocks`,
`lstrip_blocks`, the loop controls, and a few functions of their own. It comes with the model, so it runs in Jinja's
immutable sandbox: it reaches no attribute that starts with an underscore, loops over at most 100,000 numbers, and
here writes at most `_MAX_PROMPT_CHARS`. A loop that writes nothing is not bounded; whoever packs a model vouches for
it that far.

Knows no tokens: whether the tokenizer adds BOS itself is the caller's question, see `without_bos`.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from runtime.chat.messages import Message, Role
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


class ChatTemplate:
    """A compiled template; may be used from any thread."""

    def __init__(self, template: "Template", bos_token: str, eos_token: str) -> None:
        self._template = template
        self._bos_token = bos_token
        self._eos_token = eos_token

    def render(self, messages: Sequence[Message]) -> str:
        """Return the prompt that asks for the assistant's next message.

        A template that refuses system messages gets their text at the head of the first user message instead.
        Raises RequestError when the template refuses the conversation.
        """
        from jinja2 import TemplateError

        try:
            return self._render(messages)
        except TemplateError as refusal:
            folded = _fold_system(messages)
            if folded is not None:
                try:
                    return self._render(folded)
                except TemplateError:
                    pass  # then the system message wasn't what it minded: its first words are the ones to tell
            raise RequestError(_sentence(refusal), "messages") from refusal
        except Exception as fault:  # templates are programs: whatever Python raises in one is the template's no
            raise RequestError(_sentence(fault), "messages") from fault

    def _render(self, messages: Sequence[Message]) -> str:
        from jinja2.exceptions import SecurityError

        pieces: list[str] = []
        num_chars = 0
        for piece in self._template.generate(
            messages=[{"role": message.role.value, "content": message.text} for message in messages],
            tools=None,
            add_generation_prompt=True,
            bos_token=self._bos_token,
            eos_token=self._eos_token,
        ):
            num_chars += len(piece)
            if num_chars > _MAX_PROMPT_CHARS:
                raise SecurityError(f"it writes more than {_MAX_PROMPT_CHARS} characters")
            pieces.append(piece)
        return "".join(pieces)


@lru_cache(maxsize=4)
def load_template(source: str | None, bos_token: str, eos_token: str) -> ChatTemplate:
    """Return the compiled template, ChatML for None. Raises RequestError when it isn't a template."""
    from jinja2 import TemplateError

    try:
        template = _environment().from_string(source or CHATML)
    except TemplateError as error:
        raise RequestError(_sentence(error)) from error
    return ChatTemplate(template, bos_token, eos_token)


def without_bos(prompt: str, bos_token: str, *, adds_bos: bool) -> str:
    """Return the prompt less the BOS that its template wrote, when the tokenizer is going to add one as well."""
    return prompt.removeprefix(bos_token) if adds_bos else prompt


def _fold_system(messages: Sequence[Message]) -> list[Message] | None:
    """Return the messages with all system text ahead of the first user message; None when there is none to move."""
    system = "\n\n".join(message.text for message in messages if message.role is Role.SYSTEM)
    rest = [message for message in messages if message.role is not Role.SYSTEM]
    first_user = next((index for index, message in enumerate(rest) if message.role is Role.USER), None)
    if len(rest) == len(messages) or first_user is None:
        return None
    rest[first_user] = Message(Role.USER, f"{system}\n\n{rest[first_user].text}")
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
