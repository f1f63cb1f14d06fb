"""A conversation in Anthropic's blocks to the messages that the chat template sees.

What tools gave comes in blocks of the user's; here it is messages of the tools' own.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from runtime.chat.messages import Message, Role, ToolCall
from runtime.engine.values.media import MARK
from runtime.errors import RequestError
from runtime.server.asking.attachments import from_base64
from runtime.server.asking.body import Body
from runtime.server.asking.fields import Special

SYSTEM = Special("system", "What the system says: a text or a list of blocks.", {"type": ["string", "array"]})
MESSAGES = Special("messages", "The conversation.", {"type": "array", "items": {"type": "object"}})

_ROLES = {role.value: role for role in (Role.USER, Role.ASSISTANT, Role.SYSTEM)}
_BETWEEN_BLOCKS = "\n\n"


def read_messages(body: Body) -> tuple[Message, ...]:
    """Return the system's words, if any, and the messages; those of one speaker that follow each other are one.

    Raises RequestError that names the very field which is wrong.
    """
    system, messages = body.raw(SYSTEM.name), body.raw(MESSAGES.name)
    if not isinstance(messages, list) or not messages:
        raise RequestError("'messages' must be a list of at least one message", MESSAGES.name)
    read = [
        message for index, each in enumerate(messages) for message in _read_message(each, f"{MESSAGES.name}[{index}]")
    ]
    if system:
        read.insert(0, _message(Role.SYSTEM, system, SYSTEM.name))
    return tuple(_joined(read))


def _joined(messages: list[Message]) -> Iterator[Message]:
    """Yield the messages as turns, which is what most chat templates insist on."""
    waiting = messages[0]
    for message in messages[1:]:
        if message.role is waiting.role is not Role.TOOL:
            waiting = replace(
                waiting,
                text=_text_of([waiting.text, message.text]),
                reasoning=_text_of([waiting.reasoning, message.reasoning]),
                tool_calls=waiting.tool_calls + message.tool_calls,
                attachments=waiting.attachments + message.attachments,
            )
        else:
            yield waiting
            waiting = message
    yield waiting


def _read_message(value: object, param: str) -> Iterator[Message]:
    if not isinstance(value, Mapping):
        raise RequestError(f"'{param}' must be an object with 'role' and 'content'", param)
    name = value.get("role")
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise RequestError(f"'{param}.role' must be one of {', '.join(_ROLES)}", f"{param}.role")
    content, param = value.get("content"), f"{param}.content"
    if role is Role.ASSISTANT and isinstance(content, list):
        yield _read_answer(content, param)
    elif role is Role.USER and isinstance(content, list):
        yield from _read_question(content, param)
    else:
        yield _message(role, content, param)


def _message(role: Role, content: object, param: str) -> Message:
    files: list[bytes] = []
    text = _read_content(content, param, files)
    return Message(role, text, attachments=tuple(files))


def _read_answer(blocks: list[object], param: str) -> Message:
    """Return a message of the assistant's: what it thought, said and called."""
    texts, thoughts, calls = [], [], []
    files: list[bytes] = []
    for index, block in enumerate(blocks):
        where, read = f"{param}[{index}]", _object(block, f"{param}[{index}]")
        match read.get("type"):
            case "thinking":
                thoughts.append(_text(read, "thinking", where))
            case "redacted_thinking":
                pass  # nobody but its maker can read it
            case "tool_use":
                calls.append(_read_call(read, where))
            case _:
                texts.append(_read_block(read, where, files))
    return Message(Role.ASSISTANT, _text_of(texts), _text_of(thoughts), tuple(calls), attachments=tuple(files))


def _read_call(block: Mapping[str, Any], param: str) -> ToolCall:
    arguments = block.get("input")
    if not isinstance(arguments, dict):
        raise RequestError(f"'{param}.input' must be an object", f"{param}.input")
    written = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(_text(block, "id", param), _text(block, "name", param), written)


def _read_question(blocks: list[object], param: str) -> Iterator[Message]:
    """Yield a message of the user's as those of the tools whose results are in it, and what the user says besides."""
    texts: list[str] = []
    files: list[bytes] = []
    for index, block in enumerate(blocks):
        where, read = f"{param}[{index}]", _object(block, f"{param}[{index}]")
        if read.get("type") == "tool_result":
            if texts:
                yield Message(Role.USER, _text_of(texts), attachments=tuple(files))
                texts, files = [], []
            yield _read_result(read, where)
        else:
            texts.append(_read_block(read, where, files))
    if texts or not blocks:
        yield Message(Role.USER, _text_of(texts), attachments=tuple(files))


def _read_result(block: Mapping[str, Any], param: str) -> Message:
    content = block.get("content")
    files: list[bytes] = []
    text = "" if content is None else _read_content(content, f"{param}.content", files)
    if block.get("is_error") is True:
        text = f"Error: {text}"
    return Message(Role.TOOL, text, tool_call_id=_text(block, "tool_use_id", param), attachments=tuple(files))


def _read_content(value: object, param: str, files: list[bytes]) -> str:
    """Return the text of a message, with marks where its pictures belong; those are added to `files`."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RequestError(f"'{param}' must be a text or a list of blocks", param)
    places = (f"{param}[{index}]" for index in range(len(value)))
    return _text_of(
        [_read_block(_object(each, where), where, files) for each, where in zip(value, places, strict=True)]
    )


def _text_of(texts: list[str]) -> str:
    return _BETWEEN_BLOCKS.join(text for text in texts if text)


def _read_block(value: Mapping[str, Any], param: str, files: list[bytes]) -> str:
    match value.get("type"):
        case "text":
            return _text(value, "text", param)
        case "mid_conv_system":
            return _read_content(value.get("content"), f"{param}.content", files)
        case "document":
            return _read_document(value, param, files)
        case "search_result":
            found = [_text(value, "title", param), _text(value, "source", param)]
            return "\n".join([*found, _read_content(value.get("content"), f"{param}.content", files)])
        case "image":
            files.append(_read_image(value.get("source"), f"{param}.source"))
            return MARK
        case kind:
            name = kind if isinstance(kind, str) else "untyped"
            raise RequestError(f"'{param}' is a block of type {name}, which can't be used here", f"{param}.type")


def _object(value: object, param: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RequestError(f"'{param}' must be an object with 'type'", param)
    return value


def _read_image(source: object, param: str) -> bytes:
    match source:
        case {"type": "base64", "data": data}:
            return from_base64(data, f"{param}.data")
        case _:
            raise RequestError(
                f"'{param}' must be of type base64: nothing is fetched from here, and no file kept", param
            )


def _read_document(value: Mapping[str, Any], param: str, files: list[bytes]) -> str:
    """Return a document's text below its title. Raises RequestError for one that isn't text."""
    source, param_of_source = value.get("source"), f"{param}.source"
    match source:
        case {"type": "text", "data": str(text)}:
            content = text
        case {"type": "content", "content": blocks}:
            content = _read_content(blocks, f"{param_of_source}.content", files)
        case _:
            raise RequestError(
                f"'{param_of_source}' must hold text: this model reads no PDFs and no addresses", param_of_source
            )
    head = [text for text in (value.get("title"), value.get("context")) if isinstance(text, str)]
    return "\n".join([*head, content])


def _text(value: Mapping[str, Any], name: str, param: str) -> str:
    found = value.get(name)
    if not isinstance(found, str):
        raise RequestError(f"'{param}.{name}' must be a text", f"{param}.{name}")
    return found
