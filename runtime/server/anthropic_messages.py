"""A conversation in Anthropic's blocks to the messages that the chat template sees."""

from collections.abc import Iterator, Mapping
from typing import Any

from runtime.chat.messages import Message, Role
from runtime.errors import RequestError
from runtime.server.body import Body
from runtime.server.fields import Special

SYSTEM = Special("system", "What the system says: a text or a list of blocks.", {"type": ["string", "array"]})
MESSAGES = Special("messages", "The conversation.", {"type": "array", "items": {"type": "object"}})

_ROLES = {role.value: role for role in (Role.USER, Role.ASSISTANT, Role.SYSTEM)}
_BETWEEN_BLOCKS = "\n\n"


def read_conversation(body: Body) -> tuple[Message, ...]:
    """Return the system's words, if any, and the messages; those of one role that follow each other are one.

    Raises RequestError that names the very field which is wrong.
    """
    system, messages = body.raw(SYSTEM.name), body.raw(MESSAGES.name)
    if not isinstance(messages, list) or not messages:
        raise RequestError("'messages' must be a list of at least one message", MESSAGES.name)
    read = [_read_message(each, f"{MESSAGES.name}[{index}]") for index, each in enumerate(messages)]
    if system:
        read.insert(0, Message(Role.SYSTEM, _read_content(system, SYSTEM.name)))
    return tuple(_joined(read))


def _joined(messages: list[Message]) -> Iterator[Message]:
    """Yield the messages as turns, which is what most chat templates insist on."""
    waiting = messages[0]
    for message in messages[1:]:
        if message.role is waiting.role:
            waiting = Message(waiting.role, waiting.text + _BETWEEN_BLOCKS + message.text)
        else:
            yield waiting
            waiting = message
    yield waiting


def _read_message(value: object, param: str) -> Message:
    if not isinstance(value, Mapping):
        raise RequestError(f"'{param}' must be an object with 'role' and 'content'", param)
    name = value.get("role")
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise RequestError(f"'{param}.role' must be one of {', '.join(_ROLES)}", f"{param}.role")
    return Message(role, _read_content(value.get("content"), f"{param}.content"))


def _read_content(value: object, param: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RequestError(f"'{param}' must be a text or a list of blocks", param)
    texts = [_read_block(each, f"{param}[{index}]") for index, each in enumerate(value)]
    return _BETWEEN_BLOCKS.join(text for text in texts if text)


def _read_block(value: object, param: str) -> str:
    if not isinstance(value, Mapping):
        raise RequestError(f"'{param}' must be an object with 'type'", param)
    match value.get("type"):
        case "text":
            return _text(value, "text", param)
        case "mid_conv_system":
            return _read_content(value.get("content"), f"{param}.content")
        case "document":
            return _read_document(value, param)
        case "search_result":
            found = [_text(value, "title", param), _text(value, "source", param)]
            return "\n".join([*found, _read_content(value.get("content"), f"{param}.content")])
        case "image":
            raise RequestError(f"'{param}' is an image, but this model reads text only", param)
        case kind:
            name = kind if isinstance(kind, str) else "untyped"
            raise RequestError(f"'{param}' is a block of type {name}, which can't be used here", f"{param}.type")


def _read_document(value: Mapping[str, Any], param: str) -> str:
    """Return a document's text below its title. Raises RequestError for one that isn't text."""
    source, param_of_source = value.get("source"), f"{param}.source"
    match source:
        case {"type": "text", "data": str(text)}:
            content = text
        case {"type": "content", "content": blocks}:
            content = _read_content(blocks, f"{param_of_source}.content")
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
