"""The JSON of messages that most clients share, which is OpenAI's, to the messages that the chat template sees."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from runtime.chat.messages import Message, Role, ToolCall
from runtime.engine.values.media import MARK
from runtime.errors import RequestError
from runtime.server.asking.attachments import from_base64, from_url

# OpenAI renamed the system role, which few templates know; its older function calls had a role of their own.
_ROLES = {role.value: role for role in Role} | {"developer": Role.SYSTEM, "function": Role.TOOL}
# As llama-server joins them, and where the answer goes on with them.
_BETWEEN_PARTS, BETWEEN_BEGUN_PARTS = "\n", "\n\n"


def parse_messages(value: object, param: str = "messages") -> tuple[Message, ...]:
    """Return the messages of a JSON list in OpenAI's shape; `param` is the field's name, for the error.

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
    calls = parse_calls(value.get("tool_calls"), f"{param}.tool_calls") if role is Role.ASSISTANT else ()
    content = value.get("content")
    if content is None and role is Role.ASSISTANT:
        content = value.get("refusal") or ("" if calls or "content" in value else None)
    attachments: list[bytes] = []
    return Message(
        role,
        parse_content(content, f"{param}.content", attachments),
        reasoning=_text(value, "reasoning_content", param) if role is Role.ASSISTANT else "",
        tool_calls=calls,
        tool_call_id=_text(value, "tool_call_id", param),
        name=_text(value, "name", param),
        attachments=tuple(attachments),
    )


def parse_calls(value: object, param: str) -> tuple[ToolCall, ...]:
    """Return the calls of a message, none for null. Raises RequestError that names the very field which is wrong."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise RequestError(f"'{param}' must be a list of tool calls", param)
    return tuple(_parse_call(each, f"{param}[{index}]") for index, each in enumerate(value))


def _parse_call(value: object, param: str) -> ToolCall:
    called = value.get("function") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(called, Mapping):
        raise RequestError(f"'{param}' must be an object with 'id' and 'function'", param)
    name = called.get("name")
    if not isinstance(name, str) or not name:
        raise RequestError(f"'{param}.function.name' must be a text", f"{param}.function.name")
    return ToolCall(
        _text(value, "id", param), name, parse_arguments(called.get("arguments"), f"{param}.function.arguments")
    )


def parse_arguments(value: object, param: str) -> str:
    """Return a call's arguments, given as an object or as its JSON text, as that text. Raises RequestError."""
    try:
        arguments = json.loads(value) if isinstance(value, str) and value.strip() else value or {}
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise RequestError(f"'{param}' must be a JSON object, or the text of one", param)
    return value if isinstance(value, str) and value.strip() else json.dumps(arguments, ensure_ascii=False)


def parse_content(value: object, param: str, attachments: list[bytes], *, between: str = _BETWEEN_PARTS) -> str:
    """Return a message's text, given as one or as a list of parts, and add the files among those to `attachments`.

    Raises RequestError for parts of other kinds.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        parts = [_parse_part(part, f"{param}[{index}]", attachments) for index, part in enumerate(value)]
        return _joined(parts, between)
    raise RequestError(f"'{param}' must be a text or a list of parts", param)


def _joined(parts: list[str], between: str) -> str:
    """Put parts together as llama-server does: with something between texts, nothing around pictures and sounds."""
    text = ""
    for before, part in zip(["", *parts], parts, strict=False):
        is_apart = text and MARK not in (before, part)
        text += f"{between}{part}" if is_apart else part
    return text


def _parse_part(value: object, param: str, attachments: list[bytes]) -> str:
    if not isinstance(value, Mapping):
        raise RequestError(f"'{param}' must be an object with 'type' and 'text'", param)
    kind = value.get("type")
    file = _parse_file(value, kind, param)
    if file is not None:
        attachments.append(file)
        return MARK
    if kind == "refusal":
        return _text(value, "refusal", param)
    if kind not in ("text", "input_text", "output_text"):
        name = kind if isinstance(kind, str) else "untyped"
        raise RequestError(f"'{param}' is a part of type {name}, which can't be used here", f"{param}.type")
    text = value.get("text")
    if not isinstance(text, str):
        raise RequestError(f"'{param}.text' must be a text", f"{param}.text")
    return text


def _parse_file(value: Mapping[str, Any], kind: object, param: str) -> bytes | None:
    """Return the file that a part brings, None for one that brings none."""
    if kind in ("image_url", "input_image"):
        found, param = value.get("image_url"), f"{param}.image_url"
        return from_url(found.get("url"), f"{param}.url") if isinstance(found, Mapping) else from_url(found, param)
    if kind == "input_audio":
        found, param = value.get("input_audio"), f"{param}.input_audio"
        return from_base64(found.get("data") if isinstance(found, Mapping) else None, f"{param}.data")
    return None


def _text(value: Mapping[str, Any], name: str, param: str) -> str:
    found = value.get(name)
    if found is not None and not isinstance(found, str):
        raise RequestError(f"'{param}.{name}' must be a text", f"{param}.{name}")
    return found or ""
