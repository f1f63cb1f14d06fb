"""What a conversation is made of, as the chat template sees it. Knows no dialect beyond the shape they all share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from runtime.errors import RequestError


class Role(Enum):
    """Who speaks; the values are the words that templates compare with."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


# OpenAI renamed the system role; no template knows the new name.
_ROLES = {role.value: role for role in Role} | {"developer": Role.SYSTEM}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    text: str


def parse_messages(value: object, param: str = "messages") -> tuple[Message, ...]:
    """Return the messages of a JSON list; `param` is the field's name, for the error.

    Raises RequestError that names the very field which is wrong.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise RequestError(f"'{param}' must be a list of at least one message", param)
    return tuple(_parse_message(item, f"{param}[{index}]") for index, item in enumerate(value))


def _parse_message(value: object, param: str) -> Message:
    if not isinstance(value, Mapping):
        raise RequestError(f"'{param}' must be an object with 'role' and 'content'", param)
    name = value.get("role")
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise RequestError(f"'{param}.role' must be one of {', '.join(_ROLES)}", f"{param}.role")
    if value.get("tool_calls"):
        raise RequestError(f"'{param}.tool_calls' can't be used: this server has no tools", f"{param}.tool_calls")
    return Message(role, _parse_content(value.get("content"), f"{param}.content"))


def _parse_content(value: object, param: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return "".join(_parse_part(part, f"{param}[{index}]") for index, part in enumerate(value))
    raise RequestError(f"'{param}' must be a text or a list of text parts", param)


def _parse_part(value: object, param: str) -> str:
    if not isinstance(value, Mapping):
        raise RequestError(f"'{param}' must be an object with 'type' and 'text'", param)
    kind, text = value.get("type"), value.get("text")
    if kind != "text":
        name = kind if isinstance(kind, str) else "untyped"
        raise RequestError(f"'{param}' is a part of type {name}, but this model reads text only", f"{param}.type")
    if not isinstance(text, str):
        raise RequestError(f"'{param}.text' must be a text", f"{param}.text")
    return text
