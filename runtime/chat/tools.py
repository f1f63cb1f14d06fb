"""Tools and calls in words, for models whose template writes down neither."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runtime.chat.call_form import GENERIC, CallForm, Placeholder, Text
from runtime.chat.conversation import Tool
from runtime.chat.messages import Message, Role, ToolCall

_RESULT_BEGIN, _RESULT_END = "<tool_response>\n", "\n</tool_response>"


def with_tools_described(messages: Sequence[Message], tools: Sequence[Tool], form: CallForm) -> list[Message]:
    """Return the messages with the tools, and how to call them, in the system message."""
    description = (
        "You can call these tools, each given as JSON, with a JSON schema of its arguments:\n"
        f"{_lines(tools)}\n\n"
        "To call one, write its name and its arguments, a JSON object, in exactly this form:\n"
        f"{_written(form, ToolCall('', 'NAME', 'ARGUMENTS'))}"
    )
    if messages and messages[0].role is Role.SYSTEM:
        text = f"{messages[0].text}\n\n{description}" if messages[0].text else description
        return [replace(messages[0], text=text), *messages[1:]]
    return [Message(Role.SYSTEM, description), *messages]


def _lines(tools: Sequence[Tool]) -> str:
    described: list[dict[str, Any]] = [
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters} for tool in tools
    ]
    return "\n".join(json.dumps(each, ensure_ascii=False) for each in described)


def with_calls_written_out(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with calls and results as plain text in the generic form, for templates that know none."""
    written: list[Message] = []
    for message in messages:
        if message.tool_calls:
            calls = (_written(GENERIC, call) for call in message.tool_calls)
            text = "\n".join([*([message.text] if message.text else []), *calls])
            written.append(replace(message, text=text, tool_calls=()))
        elif message.role is not Role.TOOL:
            written.append(message)
        else:
            result = f"{_RESULT_BEGIN}{message.text}{_RESULT_END}"
            last = written[-1] if written else None
            # Results of calls that were made together stand in one message: many templates want turns to alternate.
            if last is not None and last.role is Role.USER and last.text.endswith(_RESULT_END):
                written[-1] = replace(last, text=f"{last.text}\n{result}")
            else:
                written.append(Message(Role.USER, result))
    return written


def _written(form: CallForm, call: ToolCall) -> str:
    parts = [*form.opening, call.name, *form.middle, call.arguments, *form.closing]
    return _text(tuple(parts))


def _text(text: Text) -> str:
    return "".join("0" if isinstance(part, Placeholder) else part for part in text)
