"""What Anthropic's requests say of tools and of thinking."""

from collections.abc import Mapping
from enum import Enum

from runtime.chat.conversation import Tool, ToolChoice, ToolUse
from runtime.checked import JsonObject, elements, wrong
from runtime.errors import RequestError
from runtime.server.asking.fields import OBJECT, OBJECTS, Special
from runtime.server.asking.tools import checked_tools, parse_function

TOOLS = Special("tools", "Tools that the model may call.", OBJECTS)
TOOL_CHOICE = Special("tool_choice", "Whether the model may, must or must not call a tool, or which.", OBJECT)
THINKING = Special("thinking", "Whether the model thinks first, and whether the answer shows its thinking.", OBJECT)
TOOL_FIELDS = (TOOLS, TOOL_CHOICE, THINKING)

_SCHEMA = "input_schema"
_CHOICES = {"auto": ToolChoice.AUTO, "any": ToolChoice.REQUIRED, "tool": ToolChoice.REQUIRED, "none": ToolChoice.NONE}


class Thinking(Enum):
    """What a client sees of the model's thinking: nothing, that there was some, or all of it."""

    HIDDEN = "hidden"
    OMITTED = "omitted"
    SHOWN = "shown"


def read_thinking(body: JsonObject) -> Thinking:
    """Return what the request says, which is nothing unless it asks for thinking. Raises RequestError."""
    if THINKING.name not in body:
        return Thinking.HIDDEN
    config = body.nested(THINKING.name)
    match config.raw("type"):
        case "disabled":
            return Thinking.HIDDEN
        case "enabled" | "adaptive":
            # How long the thinking gets is the model's own decision.
            config.integer("budget_tokens", None, low=1)
            return Thinking.OMITTED if config.text("display", None) == "omitted" else Thinking.SHOWN
    raise wrong("thinking.type", "'enabled', 'adaptive' or 'disabled'")


def read_tool_use(body: JsonObject) -> ToolUse:
    """Return the tools and what may be done with them. Raises RequestError that names the field."""
    tools = _read_tools(body.raw(TOOLS.name))
    if TOOL_CHOICE.name not in body:
        return ToolUse(tools)
    wanted = body.nested(TOOL_CHOICE.name)
    choice, kind = JsonObject(wanted.fields, TOOL_CHOICE.name).choice("type", _CHOICES), wanted.raw("type")
    if choice is ToolChoice.REQUIRED and not tools:
        raise RequestError(f"'tool_choice' {kind!r} needs 'tools' to choose from", TOOL_CHOICE.name)
    allowed = None
    if kind == "tool":
        name = wanted.text("name", None)
        if name not in {tool.name for tool in tools}:
            raise wrong("tool_choice.name", "the name of one of the 'tools'")
        allowed = frozenset({str(name)})
    return ToolUse(tools, choice, allowed, is_parallel=not wanted.flag("disable_parallel_tool_use", False))


def _read_tools(value: object) -> tuple[Tool, ...]:
    listed = elements([] if value is None else value, TOOLS.name, "a list of tools")
    return checked_tools(tuple(_read_tool(each, where) for each, where in listed), TOOLS.name)


def _read_tool(value: object, param: str) -> Tool:
    given = JsonObject(value if isinstance(value, Mapping) else {}, param)
    if given.raw("type") not in (None, "custom"):
        raise RequestError(f"'{param}' is of a type that only Anthropic's own servers have", given.path_of("type"))
    tool = parse_function(value, param, parameters=_SCHEMA)
    if _SCHEMA not in given:
        raise given.missing(_SCHEMA)
    return tool
