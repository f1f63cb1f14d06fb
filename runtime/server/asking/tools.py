"""Tools in the JSON that most clients share."""

import re
from collections.abc import Mapping

from runtime.chat.conversation import Tool
from runtime.checked import JsonObject, elements
from runtime.errors import RequestError

_MAX_TOOLS = 512
# What stands within no other form of calls than its own: no quotation marks, brackets or white space.
_NAME = re.compile(r"[\w.:/@$+-]{1,256}")


def parse_tools(value: object, param: str = "tools") -> tuple[Tool, ...]:
    """Return the tools of a JSON list in OpenAI's shape: `{"type": "function", "function": {…}}` each.

    Raises RequestError that names the very field which is wrong.
    """
    listed = elements([] if value is None else value, param, "a list of tools")
    return checked_tools(tuple(_parse_tool(each, where) for each, where in listed), param)


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
    given = JsonObject.of(value, param, "an object with 'type' and 'function'")
    check_is_function(given, given.fields.get("type", "function"))
    return parse_function(given.raw("function"), given.path_of("function"))


def check_is_function(tool: JsonObject, kind: object) -> None:
    """Raise RequestError for a tool of another kind, which only other servers have."""
    if kind != "function":
        raise tool.wrong("type", "'function': this server has no tools of its own")


def parse_function(value: object, param: str, *, parameters: str = "parameters") -> Tool:
    """Return the tool that an object with a name, a description and parameters describes.

    `parameters` is what the client calls the last. Raises RequestError.
    """
    given = JsonObject.of(value, param, f"an object with 'name', 'description' and '{parameters}'")
    name, schema = given.raw("name"), given.raw(parameters)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise given.wrong("name", "a text of up to 256 letters, digits and signs like _ - . / :")
    description = given.text("description", "")
    if schema is not None and (not isinstance(schema, Mapping) or schema.get("type", "object") != "object"):
        raise given.wrong(parameters, "a JSON schema of an object")
    return Tool(name, description, schema or {}, is_strict=given.flag("strict", False))
