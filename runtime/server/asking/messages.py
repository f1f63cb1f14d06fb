"""The JSON of messages that most clients share, which is OpenAI's, to the messages that the chat template sees.

Whatever is wrong raises RequestError that names the very field.
"""

import json
from collections.abc import Mapping

from runtime.chat.messages import Message, Role, ToolCall
from runtime.checked import JsonObject, elements, wrong
from runtime.engine.values.media import MARK
from runtime.errors import RequestError
from runtime.server.asking.attachments import from_base64, from_url
from runtime.server.asking.parsing import parse_object
from runtime.server.refusals import BodyTooLarge

# OpenAI renamed the system role, which few templates know; its older function calls had a role of their own.
_ROLES = {role.value: role for role in Role} | {"developer": Role.SYSTEM, "function": Role.TOOL}
# As llama-server joins them, and where the answer goes on with them.
_BETWEEN_PARTS, BETWEEN_BEGUN_PARTS = "\n", "\n\n"
_TEXT_KINDS = ("text", "input_text", "output_text")


def parse_messages(value: object, param: str = "messages") -> tuple[Message, ...]:
    """Return the messages of a JSON list in OpenAI's shape; `param` is the field's name, for the error."""
    listed = elements(value, param, "a list of at least one message", is_filled=True)
    found = (JsonObject.of(each, where, "an object with 'role' and 'content'") for each, where in listed)
    return tuple(map(_parse_message, found))


def _parse_message(given: JsonObject) -> Message:
    role = given.choice("role", _ROLES)
    is_answer = role is Role.ASSISTANT
    calls = parse_calls(given.raw("tool_calls"), given.path_of("tool_calls")) if is_answer else ()
    content = given.raw("content")
    if content is None and is_answer:
        content = given.raw("refusal") or ("" if calls or "content" in given.fields else None)
    attachments: list[bytes] = []
    return Message(
        role,
        parse_content(content, given.path_of("content"), attachments),
        reasoning=given.text("reasoning_content", "") if is_answer else "",
        tool_calls=calls,
        tool_call_id=given.text("tool_call_id", ""),
        name=given.text("name", ""),
        attachments=tuple(attachments),
    )


def parse_calls(value: object, param: str) -> tuple[ToolCall, ...]:
    """Return the calls of a message, none for null."""
    if value is None:
        return ()
    return tuple(_parse_call(each, where) for each, where in elements(value, param, "a list of tool calls"))


def _parse_call(value: object, param: str) -> ToolCall:
    call = JsonObject.of(value, param, "an object with 'id' and 'function'")
    if not isinstance(call.raw("function"), Mapping):
        raise wrong(param, "an object with 'id' and 'function'")
    called = JsonObject(call.raw("function"), call.path_of("function"))
    name = called.required_text("name", is_filled=True)
    return ToolCall(call.text("id", ""), name, parse_arguments(called.raw("arguments"), called.path_of("arguments")))


def parse_arguments(value: object, param: str) -> str:
    """Return a call's arguments, given as an object or as its JSON text, as that text."""
    if isinstance(value, str) and value.strip():
        try:
            parse_object(value.encode())  # as strictly as the body that it came in
        except BodyTooLarge:
            raise
        except RequestError:
            raise wrong(param, "a JSON object, or the text of one") from None
        return value
    arguments = value or {}
    if not isinstance(arguments, dict):
        raise wrong(param, "a JSON object, or the text of one")
    return json.dumps(arguments, ensure_ascii=False)


def parse_content(value: object, param: str, attachments: list[bytes], *, between: str = _BETWEEN_PARTS) -> str:
    """Return a message's text, given as one or as a list of parts, and add the files among those to `attachments`."""
    if isinstance(value, str):
        return value
    listed = elements(value, param, "a text or a list of parts")
    parts = (JsonObject.of(each, where, "an object with 'type' and 'text'") for each, where in listed)
    return _joined([_parse_part(part, attachments) for part in parts], between)


def _joined(parts: list[str], between: str) -> str:
    """Put parts together as llama-server does: with something between texts, nothing around pictures and sounds."""
    text = ""
    for before, part in zip(["", *parts], parts, strict=False):
        is_apart = text and MARK not in (before, part)
        text += f"{between}{part}" if is_apart else part
    return text


def _parse_part(part: JsonObject, attachments: list[bytes]) -> str:
    match part.raw("type"):
        case "image_url" | "input_image":
            attachments.append(_parse_picture(part.raw("image_url"), part.path_of("image_url")))
            return MARK
        case "input_audio":
            sound = part.raw("input_audio")
            data = sound.get("data") if isinstance(sound, Mapping) else None
            attachments.append(from_base64(data, part.path_of("input_audio.data")))
            return MARK
        case "refusal":
            return part.text("refusal", "")
        case kind if kind in _TEXT_KINDS:
            return part.required_text("text")
        case kind:
            name = kind if isinstance(kind, str) else "untyped"
            raise RequestError(
                f"'{part.path}' is a part of type {name}, which can't be used here", part.path_of("type")
            )


def _parse_picture(value: object, param: str) -> bytes:
    return from_url(value.get("url"), f"{param}.url") if isinstance(value, Mapping) else from_url(value, param)
