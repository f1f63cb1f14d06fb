"""What Anthropic's requests say of tools and of thinking."""

from collections.abc import Mapping
from enum import Enum

from runtime.chat.conversation import Tool, ToolChoice, ToolUse
from runtime.errors import RequestError
from runtime.server.asking.body import Body
from runtime.server.asking.fields import Special
from runtime.server.asking.tools import checked_tools, parse_function

TOOLS = Special("tools", "What the model may call.", {"type": "array", "items": {"type": "object"}})
TOOL_CHOICE = Special("tool_choice", "Whether it may, must or must not, or which one.", {"type": "object"})
THINKING = Special("thinking", "Whether the model thinks first, and shows it.", {"type": "object"})
TOOL_FIELDS = (TOOLS, TOOL_CHOICE, THINKING)

_SCHEMA = "input_schema"
_CHOICES = {
    "auto": ToolChoice.AUTO,
    "any": ToolChoice.REQUIRED,
    "tool": ToolChoice.REQUIRED,
    "none": ToolChoice.NONE,
}


class Thinking(Enum):
    """What a client sees of the model's thinking: nothing, that there was some, or all of it."""

    HIDDEN = "hidden"
    OMITTED = "omitted"
    SHOWN = "shown"


def read_thinking(body: Body) -> Thinking:
    """Return what the request says, which is nothing unless it asks for thinking. Raises RequestError."""
    if THINKING.name not in body:
        return Thinking.HIDDEN
    config = body.nested(THINKING.name)
    match config.raw("type"):
        case "disabled":
            return Thinking.HIDDEN
        case "enabled" | "adaptive":
            # How long the thinking gets is the model's own decision.
            config.optional_integer("budget_tokens", low=1)
            return Thinking.OMITTED if config.text("display") == "omitted" else Thinking.SHOWN
    raise RequestError("'thinking.type' must be 'enabled', 'adaptive' or 'disabled'", "thinking.type")


def read_tool_use(body: Body) -> ToolUse:
    """Return the tools and what may be done with them. Raises RequestError that names the field."""
    tools = _read_tools(body.raw(TOOLS.name))
    if TOOL_CHOICE.name not in body:
        return ToolUse(tools)
    wanted = body.nested(TOOL_CHOICE.name)
    kind = wanted.raw("type")
    choice = _CHOICES.get(kind) if isinstance(kind, str) else None
    if choice is None:
        raise RequestError(f"'tool_choice.type' must be one of {', '.join(_CHOICES)}", "tool_choice.type")
    if choice is ToolChoice.REQUIRED and not tools:
        raise RequestError(f"'tool_choice' {kind!r} needs 'tools' to choose from", TOOL_CHOICE.name)
    allowed = None
    if kind == "tool":
        name = wanted.text("name")
        if name not in {tool.name for tool in tools}:
            raise RequestError("'tool_choice.name' must be the name of one of the 'tools'", "tool_choice.name")
        allowed = frozenset({str(name)})
    return ToolUse(tools, choice, allowed, is_parallel=not wanted.flag("disable_parallel_tool_use", False))


def _read_tools(value: object) -> tuple[Tool, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise RequestError("'tools' must be a list of tools", TOOLS.name)
    tools = tuple(_read_tool(each, f"{TOOLS.name}[{index}]") for index, each in enumerate(value))
    return checked_tools(tools, TOOLS.name)


def _read_tool(value: object, param: str) -> Tool:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind not in (None, "custom"):
        raise RequestError(f"'{param}' is of a type that only Anthropic's own servers have", f"{param}.type")
    tool = parse_function(value, param, parameters=_SCHEMA)
    if not tool.parameters and isinstance(value, Mapping) and value.get(_SCHEMA) is None:
        raise RequestError(f"'{param}.{_SCHEMA}' is missing", f"{param}.{_SCHEMA}")
    return tool
