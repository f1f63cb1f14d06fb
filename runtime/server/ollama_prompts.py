"""What an answer in Ollama's dialect goes on from: a prompt in one of its kinds, or a conversation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.chat.messages import Message, Role
from runtime.errors import RequestError
from runtime.server.body import Body
from runtime.server.conversation import chat_tokens
from runtime.server.fields import Flag, Special, Text
from runtime.server.infill import fill_tokens
from runtime.server.parameters import is_token

if TYPE_CHECKING:
    from runtime.engine.engine import Engine

_PROMPT = Text("prompt", "What the user says, or with raw what the model goes on with; nothing loads the model.")
_SUFFIX = Text("suffix", "What follows the answer, with models that were trained to fill gaps.")
_SYSTEM = Text("system", "What the system says.")
_RAW = Flag("raw", "Take the prompt as it is, without the model's template.")
_CONTEXT = Special(
    "context", "What an earlier answer gave, to go on from.", {"type": "array", "items": {"type": "integer"}}
)
PROMPT_FIELDS = (_PROMPT, _SUFFIX, _SYSTEM, _RAW, _CONTEXT)
MESSAGES = Special("messages", "The conversation.", {"type": "array", "items": {"type": "object"}})

_ROLES = {role.value: role for role in Role}
_NOT_WHEN_RAW = (_SYSTEM, _CONTEXT)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt of `/api/generate`; `context` is what an earlier answer gave to go on from, as token ids."""

    text: str
    suffix: str
    system: str
    context: tuple[int, ...]
    is_raw: bool

    @classmethod
    def of(cls, body: Body) -> "Prompt":
        is_raw = _RAW.read(body, False)
        if body.text("template"):
            raise RequestError("'template' can't be changed here; with 'raw' the prompt is taken as it is", "template")
        for each in _NOT_WHEN_RAW:
            if is_raw and body.raw(each.name):
                raise RequestError(f"raw mode does not support '{each.name}'; write it into the prompt", each.name)
        _refuse_images(body.raw("images"), "images")
        return cls(
            text=_PROMPT.read(body, ""),
            suffix=_SUFFIX.read(body, ""),
            system=_SYSTEM.read(body, ""),
            context=_read_context(body.raw(_CONTEXT.name)),
            is_raw=is_raw,
        )

    @property
    def is_empty(self) -> bool:
        return not (self.text or self.suffix)

    def tokens(self, engine: "Engine", max_tokens: int | None) -> tuple[int, ...]:
        """Return the prompt as token ids; `max_tokens` is how long the answer may get. Takes long."""
        if self.suffix:
            return fill_tokens(engine, self.text, self.suffix, max_tokens=max_tokens)
        if self.is_raw:
            return tuple(engine.tokenize(self.text, add_special=True, parse_special=True))
        system = (Message(Role.SYSTEM, self.system),) if self.system else ()
        messages = (*system, Message(Role.USER, self.text))
        return self.context + chat_tokens(engine, messages, is_first=not self.context)


def read_messages(value: object) -> tuple[Message, ...]:
    """Return the messages of `/api/chat`, none where there are none. Raises RequestError that names the field."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise RequestError("'messages' must be a list of messages", MESSAGES.name)
    return tuple(_read_message(item, f"{MESSAGES.name}[{index}]") for index, item in enumerate(value))


def _read_message(value: object, param: str) -> Message:
    if not isinstance(value, Mapping):
        raise RequestError(f"'{param}' must be an object with 'role' and 'content'", param)
    name, content = value.get("role"), value.get("content")
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise RequestError(f"'{param}.role' must be one of {', '.join(_ROLES)}", f"{param}.role")
    if content is not None and not isinstance(content, str):
        raise RequestError(f"'{param}.content' must be a text", f"{param}.content")
    if value.get("tool_calls"):
        raise RequestError(f"'{param}.tool_calls' can't be used: this server has no tools", f"{param}.tool_calls")
    _refuse_images(value.get("images"), f"{param}.images")
    return Message(role, content or "")


def _refuse_images(value: object, param: str) -> None:
    if value:
        raise RequestError(f"'{param}' can't be used: this model reads text only", param)


def _read_context(value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(map(is_token, value)):
        raise RequestError("'context' must be a list of token ids, as an answer gave it", _CONTEXT.name)
    return tuple(value)
