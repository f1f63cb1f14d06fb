"""What an answer in Ollama's dialect goes on from: a prompt in one of its kinds, or a conversation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.chat.messages import Message, Role
from runtime.errors import RequestError
from runtime.server.body import Body
from runtime.server.conversation import chat_tokens
from runtime.server.infill import fill_tokens
from runtime.server.parameters import is_token

if TYPE_CHECKING:
    from runtime.engine.engine import Engine

_ROLES = {role.value: role for role in Role}
_NOT_WHEN_RAW = ("system", "context")


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
        is_raw = body.flag("raw", False)
        if body.text("template"):
            raise RequestError("'template' can't be changed here; with 'raw' the prompt is taken as it is", "template")
        for name in _NOT_WHEN_RAW:
            if is_raw and body.raw(name):
                raise RequestError(f"raw mode does not support '{name}'; write it into the prompt", name)
        _refuse_images(body.raw("images"), "images")
        return cls(
            text=body.text("prompt") or "",
            suffix=body.text("suffix") or "",
            system=body.text("system") or "",
            context=_read_context(body.raw("context")),
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
        raise RequestError("'messages' must be a list of messages", "messages")
    return tuple(_read_message(item, f"messages[{index}]") for index, item in enumerate(value))


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
        raise RequestError("'context' must be a list of token ids, as an answer gave it", "context")
    return tuple(value)
