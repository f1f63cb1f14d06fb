"""A conversation in Ollama's dialect.

Ollama's calls have no ids, or needn't: their results follow in the calls' order, with the tools' names. Templates want
ids, so those that are missing are made up here.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runtime.chat.messages import Message, Role, ToolCall
from runtime.engine.values.media import MARK
from runtime.errors import RequestError
from runtime.server.asking.attachments import from_base64
from runtime.server.asking.fields import Special
from runtime.server.asking.messages import parse_calls

MESSAGES = Special("messages", "The conversation.", {"type": "array", "items": {"type": "object"}})

_ROLES = {role.value: role for role in Role}


def read_messages(value: object) -> tuple[Message, ...]:
    """Return the messages of `/api/chat`, none where there are none. Raises RequestError that names the field."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise RequestError("'messages' must be a list of messages", MESSAGES.name)
    return _with_ids([_read_message(item, f"{MESSAGES.name}[{index}]") for index, item in enumerate(value)])


def _with_ids(messages: list[Message]) -> tuple[Message, ...]:
    """Return the messages with an id for each call, and for each result that of its call."""
    whole: list[Message] = []
    num_calls = 0
    waiting: list[ToolCall] = []  # for their results
    for message in messages:
        if message.tool_calls:
            calls = [replace(call, id=call.id or f"call_{num_calls + n}") for n, call in enumerate(message.tool_calls)]
            num_calls += len(calls)
            waiting = list(calls)
            whole.append(replace(message, tool_calls=tuple(calls)))
        elif message.role is Role.TOOL and not message.tool_call_id:
            answered = next((call for call in waiting if message.name in ("", call.name)), None)
            if answered is not None:
                waiting.remove(answered)
            whole.append(replace(message, tool_call_id=answered.id if answered else ""))
        else:
            whole.append(message)
    return tuple(whole)


def _read_message(value: object, param: str) -> Message:
    if not isinstance(value, Mapping):
        raise RequestError(f"'{param}' must be an object with 'role' and 'content'", param)
    name = value.get("role")
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise RequestError(f"'{param}.role' must be one of {', '.join(_ROLES)}", f"{param}.role")
    images = read_images(value.get("images"), f"{param}.images")
    return Message(
        role,
        MARK * len(images) + _text(value, "content", param),
        reasoning=_text(value, "thinking", param) if role is Role.ASSISTANT else "",
        tool_calls=parse_calls(value.get("tool_calls"), f"{param}.tool_calls") if role is Role.ASSISTANT else (),
        tool_call_id=_text(value, "tool_call_id", param),
        name=_text(value, "tool_name", param) or _text(value, "name", param),
        attachments=images,
    )


def read_images(value: object, param: str) -> tuple[bytes, ...]:
    """Return the pictures of a message or a prompt, which stand before its text. Raises RequestError."""
    if not value:
        return ()
    if not isinstance(value, list):
        raise RequestError(f"'{param}' must be a list of pictures in base64", param)
    return tuple(from_base64(each, f"{param}[{index}]") for index, each in enumerate(value))


def _text(value: Mapping[str, Any], name: str, param: str) -> str:
    found = value.get(name)
    if found is not None and not isinstance(found, str):
        raise RequestError(f"'{param}.{name}' must be a text", f"{param}.{name}")
    return found or ""
