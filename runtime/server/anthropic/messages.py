"""A conversation in Anthropic's blocks to the messages that the chat template sees.

What tools gave comes in blocks of the user's; here it is messages of the tools' own.
"""

import json
from collections.abc import Iterator
from dataclasses import replace

from runtime.chat.messages import Message, Role, ToolCall
from runtime.checked import JsonObject, elements
from runtime.engine.values.media import MARK
from runtime.errors import RequestError
from runtime.server.asking.attachments import from_base64
from runtime.server.asking.fields import OBJECTS, Special

SYSTEM = Special("system", "The system message: a text or a list of blocks.", {"type": ["string", "array"]})
MESSAGES = Special("messages", "The conversation.", OBJECTS)

_ROLES = {role.value: role for role in (Role.USER, Role.ASSISTANT, Role.SYSTEM)}
_BETWEEN_BLOCKS = "\n\n"


def read_messages(body: JsonObject) -> tuple[Message, ...]:
    """Return the system's words, if any, and the messages; those of one speaker that follow each other are one.

    Raises RequestError that names the very field which is wrong.
    """
    system, messages = body.raw(SYSTEM.name), body.raw(MESSAGES.name)
    listed = elements(messages, MESSAGES.name, "a list of at least one message", is_filled=True)
    read = [message for each, where in listed for message in _read_message(each, where)]
    if system:
        read.insert(0, _message(Role.SYSTEM, system, SYSTEM.name))
    return tuple(_joined(read))


def _joined(messages: list[Message]) -> Iterator[Message]:
    """Yield the messages as turns, which is what most chat templates insist on."""
    turn: list[Message] = []
    for message in messages:
        if turn and not (message.role is turn[-1].role is not Role.TOOL):
            yield _one_of(turn)
            turn = []
        turn.append(message)
    yield _one_of(turn)


def _one_of(turn: list[Message]) -> Message:
    if len(turn) == 1:
        return turn[0]
    return replace(
        turn[0],
        text=_text_of([message.text for message in turn]),
        reasoning=_text_of([message.reasoning for message in turn]),
        tool_calls=tuple(call for message in turn for call in message.tool_calls),
        attachments=tuple(file for message in turn for file in message.attachments),
    )


def _read_message(value: object, param: str) -> Iterator[Message]:
    given = JsonObject.of(value, param, "an object with 'role' and 'content'")
    role = given.choice("role", _ROLES)
    content, param = given.raw("content"), given.path_of("content")
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


def _blocks(value: object, param: str) -> Iterator[JsonObject]:
    listed = elements(value, param, "a text or a list of blocks")
    return (JsonObject.of(each, where, "an object with 'type'") for each, where in listed)


def _read_answer(content: list[object], param: str) -> Message:
    """Return a message of the assistant's: what it thought, said and called."""
    texts, thoughts, calls = [], [], []
    files: list[bytes] = []
    for block in _blocks(content, param):
        match block.raw("type"):
            case "thinking":
                thoughts.append(block.required_text("thinking"))
            case "redacted_thinking":
                pass  # nobody but its maker can read it
            case "tool_use":
                calls.append(_read_call(block))
            case _:
                texts.append(_read_block(block, files))
    return Message(Role.ASSISTANT, _text_of(texts), _text_of(thoughts), tuple(calls), attachments=tuple(files))


def _read_call(block: JsonObject) -> ToolCall:
    arguments = block.raw("input")
    if not isinstance(arguments, dict):
        raise block.wrong("input", "an object")
    written = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(block.required_text("id"), block.required_text("name"), written)


def _read_question(content: list[object], param: str) -> Iterator[Message]:
    """Yield a message of the user's as those of the tools whose results are in it, and what the user says besides."""
    texts: list[str] = []
    files: list[bytes] = []
    for block in _blocks(content, param):
        if block.raw("type") == "tool_result":
            if texts:
                yield Message(Role.USER, _text_of(texts), attachments=tuple(files))
                texts, files = [], []
            yield _read_result(block)
        else:
            texts.append(_read_block(block, files))
    if texts or not content:
        yield Message(Role.USER, _text_of(texts), attachments=tuple(files))


def _read_result(block: JsonObject) -> Message:
    files: list[bytes] = []
    text = _content_of(block, files) if "content" in block else ""
    if block.raw("is_error") is True:
        text = f"Error: {text}"
    return Message(Role.TOOL, text, tool_call_id=block.required_text("tool_use_id"), attachments=tuple(files))


def _read_content(value: object, param: str, files: list[bytes]) -> str:
    """Return the text of a message, with marks where its pictures belong; those are added to `files`."""
    if isinstance(value, str):
        return value
    return _text_of([_read_block(block, files) for block in _blocks(value, param)])


def _content_of(block: JsonObject, files: list[bytes]) -> str:
    return _read_content(block.raw("content"), block.path_of("content"), files)


def _text_of(texts: list[str]) -> str:
    return _BETWEEN_BLOCKS.join(text for text in texts if text)


def _read_block(block: JsonObject, files: list[bytes]) -> str:
    match block.raw("type"):
        case "text":
            return block.required_text("text")
        case "mid_conv_system":
            return _content_of(block, files)
        case "document":
            return _read_document(block, files)
        case "search_result":
            found = [block.required_text("title"), block.required_text("source")]
            return "\n".join([*found, _content_of(block, files)])
        case "image":
            files.append(_read_image(block))
            return MARK
        case kind:
            name = kind if isinstance(kind, str) else "untyped"
            raise RequestError(
                f"'{block.path}' is a block of type {name}, which can't be used here", block.path_of("type")
            )


def _read_image(block: JsonObject) -> bytes:
    match block.raw("source"):
        case {"type": "base64", "data": data}:
            return from_base64(data, block.path_of("source.data"))
    raise block.wrong("source", "of type base64: nothing is fetched from here, and no file kept")


def _read_document(block: JsonObject, files: list[bytes]) -> str:
    """Return a document's text below its title. Raises RequestError for one that isn't text."""
    match block.raw("source"):
        case {"type": "text", "data": str(text)}:
            content = text
        case {"type": "content", "content": blocks}:
            content = _read_content(blocks, block.path_of("source.content"), files)
        case _:
            source = block.path_of("source")
            raise RequestError(f"'{source}' must hold text: this model reads no PDFs and no addresses", source)
    head = [text for text in (block.raw("title"), block.raw("context")) if isinstance(text, str)]
    return "\n".join([*head, content])
