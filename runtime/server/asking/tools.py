"""Tools in the JSON that most clients share."""

import re
from collections.abc import Mapping

from runtime.chat.conversation import Tool
from runtime.errors import RequestError

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
