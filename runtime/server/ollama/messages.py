"""A conversation in Ollama's dialect.

Ollama's calls have no ids, or needn't: their results follow in the calls' order, with the tools' names. Templates want
ids, so those that are missing are made up here.
"""

from dataclasses import replace

from runtime.chat.messages import Message, Role, ToolCall
from runtime.checked import JsonObject, elements
from runtime.engine.values.media import MARK
from runtime.server.asking.attachments import from_base64
from runtime.server.asking.fields import OBJECTS, Special
from runtime.server.asking.messages import parse_calls

MESSAGES = Special("messages", "The conversation.", OBJECTS)

_ROLES = {role.value: role for role in Role}


def read_messages(value: object) -> tuple[Message, ...]:
    """Return the messages of `/api/chat`, none where there are none. Raises RequestError that names the field."""
    listed = elements([] if value is None else value, MESSAGES.name, "a list of messages")
    return _with_ids([_read_message(each, where) for each, where in listed])


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
    given = JsonObject.of(value, param, "an object with 'role' and 'content'")
    role = given.choice("role", _ROLES)
    is_answer = role is Role.ASSISTANT
    images = read_images(given.raw("images"), given.path_of("images"))
    return Message(
        role,
        MARK * len(images) + given.text("content", ""),
        reasoning=given.text("thinking", "") if is_answer else "",
        tool_calls=parse_calls(given.raw("tool_calls"), given.path_of("tool_calls")) if is_answer else (),
        tool_call_id=given.text("tool_call_id", ""),
        name=given.text("tool_name", "") or given.text("name", ""),
        attachments=images,
    )


def read_images(value: object, param: str) -> tuple[bytes, ...]:
    """Return the pictures of a message or a prompt, which stand before its text. Raises RequestError."""
    listed = elements(value or [], param, "a list of pictures in base64")
    return tuple(from_base64(each, where) for each, where in listed)
