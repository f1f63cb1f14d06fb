"""Tools as JSON: read from the shape that most dialects share, and told to models whose template doesn't do so."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from runtime.chat.call_form import GENERIC, CallForm, Hole, Text
from runtime.chat.conversation import Tool
from runtime.chat.messages import Message, Role, ToolCall
from runtime.errors import RequestError

_RESULT_BEGIN, _RESULT_END = "<tool_response>\n", "\n</tool_response>"
_MAX_TOOLS = 512
# What stands within no other form of calls than its own: no quotation marks, brackets or white space.
_NAME = re.compile(r"[\w.:/@$+-]{1,256}")


def parse_tools(value: object, param: str = "tools") -> tuple[Tool, ...]:
    """Return the tools of a JSON list in OpenAI's shape: `{"type": "function", "function": {…}}` each.

    Raises RequestError that names the very field which is wrong.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise RequestError(f"'{param}' must be a list of tools", param)
    tools = tuple(_parse_tool(item, f"{param}[{index}]") for index, item in enumerate(value))
    return checked_tools(tools, param)


def checked_tools(tools: tuple[Tool, ...], param: str) -> tuple[Tool, ...]:
    """Return the tools. Raises RequestError when they are too many, or two have one name."""
    if len(tools) > _MAX_TOOLS:
        raise RequestError(f"'{param}' holds {len(tools)} tools; at most {_MAX_TOOLS} go into a request", param)
    names = [tool.name for tool in tools]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RequestError(f"'{param}' has two tools of the name {twice!r}", param)
    return tools


def _parse_tool(value: object, param: str) -> Tool:
    if not isinstance(value, Mapping):
        raise RequestError(f"'{param}' must be an object with 'type' and 'function'", param)
    if value.get("type", "function") != "function":
        raise RequestError(f"'{param}.type' must be 'function': this server has no tools of its own", f"{param}.type")
    return parse_function(value.get("function"), f"{param}.function")


def parse_function(value: object, param: str, *, parameters: str = "parameters") -> Tool:
    """Return the tool that an object with a name, a description and parameters describes.

    `parameters` is what the dialect calls the last. Raises RequestError.
    """
    if not isinstance(value, Mapping):
        raise RequestError(f"'{param}' must be an object with 'name', 'description' and '{parameters}'", param)
    name, description, schema = value.get("name"), value.get("description"), value.get(parameters)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RequestError(
            f"'{param}.name' must be a text of up to 256 letters, digits and signs like _ - . / :", f"{param}.name"
        )
    if description is not None and not isinstance(description, str):
        raise RequestError(f"'{param}.description' must be a text", f"{param}.description")
    if schema is not None and (not isinstance(schema, Mapping) or schema.get("type", "object") != "object"):
        where = f"{param}.{parameters}"
        raise RequestError(f"'{where}' must be a JSON schema of an object", where)
    is_strict = value.get("strict")
    if is_strict is not None and not isinstance(is_strict, bool):
        raise RequestError(f"'{param}.strict' must be true or false", f"{param}.strict")
    return Tool(name, description or "", schema or {}, is_strict=bool(is_strict))


def with_tools_told(messages: Sequence[Message], tools: Sequence[Tool], form: CallForm) -> list[Message]:
    """Return the messages with the tools, and how to call them, in the system message."""
    told = (
        "You can call these tools, each given as JSON, with a JSON schema of its arguments:\n"
        f"{_lines(tools)}\n\n"
        "To call one, write its name and its arguments, a JSON object, in exactly this form:\n"
        f"{_written(form, ToolCall('', 'NAME', 'ARGUMENTS'))}"
    )
    if messages and messages[0].role is Role.SYSTEM:
        text = f"{messages[0].text}\n\n{told}" if messages[0].text else told
        return [replace(messages[0], text=text), *messages[1:]]
    return [Message(Role.SYSTEM, told), *messages]


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
    return "".join("0" if isinstance(part, Hole) else part for part in text)
