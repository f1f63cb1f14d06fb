"""The fields of a request that make a conversation, as OpenAI's chat completions have them, with llama-server's own.

messages, tools, tool_choice, parallel_tool_calls      functions and function_call are their forerunners
reasoning_effort, reasoning_format, chat_template_kwargs
add_generation_prompt, continue_final_message, parse_special
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runtime.chat.conversation import Conversation, Tool, ToolChoice, ToolUse
from runtime.chat.messages import Message, Role
from runtime.checked import JsonObject, elements, wrong
from runtime.errors import RequestError
from runtime.server.asking.fields import OBJECT, OBJECTS, Flag, Special, Text
from runtime.server.asking.messages import BETWEEN_BEGUN_PARTS, parse_content, parse_messages
from runtime.server.asking.tools import checked_tools, parse_function, parse_tools

_CHOICE = {"oneOf": [{"type": "string", "enum": ["none", "auto", "required"]}, {"type": "object"}]}
_FORMATS = {"none": False, "auto": True, "deepseek": True}  # whether thinking is reported apart

MESSAGES = Special("messages", "The conversation.", OBJECTS)
_TOOLS = Special("tools", "Functions that the model may call, each with a JSON schema of its arguments.", OBJECTS)
_TOOL_CHOICE = Special("tool_choice", "Whether the model calls a tool: none, auto, required, or which one.", _CHOICE)
_PARALLEL = Flag("parallel_tool_calls", "Whether one answer may hold several calls.")
_FUNCTIONS = Special("functions", "The older name of tools.", OBJECTS)
_FUNCTION_CALL = Special("function_call", "The older name of tool_choice.", _CHOICE)
_EFFORT = Text("reasoning_effort", "How much a thinking model thinks; none: not at all.")
_FORMAT = Text("reasoning_format", "none: thinking is part of the text; auto or deepseek: it has its own field.")
_VARIABLES = Special("chat_template_kwargs", "More variables for the chat template.", OBJECT)
_ADD_PROMPT = Flag("add_generation_prompt", "End the prompt with the beginning of an assistant's message.")
_CONTINUE = Special(
    "continue_final_message", "Go on with the last message, which is the assistant's.", {"type": ["boolean", "string"]}
)
_PARSE_SPECIAL = Flag("parse_special", "Read the names of control tokens in messages as those tokens.")
CONVERSATION_FIELDS = (
    *(MESSAGES, _TOOLS, _TOOL_CHOICE, _PARALLEL, _FUNCTIONS, _FUNCTION_CALL),
    *(_EFFORT, _FORMAT, _VARIABLES, _ADD_PROMPT, _CONTINUE, _PARSE_SPECIAL),
)


@dataclass(frozen=True, slots=True)
class ChatDefaults:
    """Defaults of a request's conversation. `thinking` None leaves it to the model's template."""

    thinking: bool | None = None
    splits_thinking: bool = True
    variables: Mapping[str, Any] = field(default_factory=dict)
    parses_special: bool = False  # names of control tokens in texts are those tokens
    shows_prompts: bool = False  # with every answer, as llama-server does when it is verbose


def read_conversation(body: JsonObject, defaults: ChatDefaults) -> Conversation:
    """Return the conversation that a request is about. Raises RequestError that names the field which is wrong."""
    messages = parse_messages(body.raw(MESSAGES.name))
    variables = {**defaults.variables, **body.nested(_VARIABLES.name).fields}
    thinking = variables.get("enable_thinking", defaults.thinking)
    if thinking is not None and not isinstance(thinking, bool):
        name = f"{_VARIABLES.name}.enable_thinking"
        raise wrong(name, "true or false")
    effort = _EFFORT.value_in(body, "")
    if effort == "none":
        thinking = False
    elif effort:
        variables[_EFFORT.name] = effort
    for name in ("reasoning_budget_tokens", "thinking_budget_tokens"):
        body.refuse(name, but=(-1, 0))
        if body.raw(name) == 0:
            thinking = False
    continues_last = _continues_last(body, messages)
    if continues_last:
        messages = (*messages[:-1], _begun(messages[-1], body.raw(MESSAGES.name)[-1].get("content")))
    return Conversation(
        messages,
        _tool_use(body),
        thinking=thinking,
        splits_thinking=_splits_thinking(body, defaults),
        variables=variables,
        continues_last=continues_last,
        adds_generation_prompt=_ADD_PROMPT.value_in(body, True),
        parses_special=_PARSE_SPECIAL.value_in(body, defaults.parses_special),
    )


def _splits_thinking(body: JsonObject, defaults: ChatDefaults) -> bool:
    chosen = _FORMAT.value_in(body, None)
    if chosen is None:
        return defaults.splits_thinking
    if chosen not in _FORMATS:
        raise wrong(_FORMAT.name, f"one of {', '.join(_FORMATS)}")
    return _FORMATS[chosen]


def _continues_last(body: JsonObject, messages: Sequence[Message]) -> bool:
    """Return whether the answer goes on with the last message: without a word, if the assistant began one."""
    asked = body.raw(_CONTINUE.name)
    if asked not in (None, True, False, "content", "reasoning_content"):
        raise wrong(_CONTINUE.name, "true, false, 'content' or 'reasoning_content'")
    last = messages[-1]
    if asked and body.raw(_ADD_PROMPT.name) is True:
        raise RequestError(f"'{_ADD_PROMPT.name}' and '{_CONTINUE.name}' can't both be true", _CONTINUE.name)
    if last.role is not Role.ASSISTANT or asked is False:
        return False
    if len(messages) > 1 and messages[-2].role is Role.ASSISTANT:
        raise RequestError(f"'{MESSAGES.name}' can't end with two of the assistant's", MESSAGES.name)
    if last.tool_calls:
        raise RequestError(f"'{MESSAGES.name}' can't end with tool calls: their results are missing", MESSAGES.name)
    return len(messages) > 1 or bool(asked)


def _begun(message: Message, content: object) -> Message:
    """Return the message that the answer goes on with, its parts apart as llama-server has them here.

    OpenAI's API can't go on with an answer, so it is llama-server's clients alone that know what their parts become.
    """
    if not isinstance(content, list):
        return message
    return replace(message, text=parse_content(content, MESSAGES.name, [], between=BETWEEN_BEGUN_PARTS))


def has_functions(body: JsonObject) -> bool:
    """Whether a request speaks of functions, as clients did before there were tools."""
    return _FUNCTIONS.name in body and _TOOLS.name not in body


def _tool_use(body: JsonObject) -> ToolUse:
    if has_functions(body):
        tools, choice = _functions(body.raw(_FUNCTIONS.name)), body.raw(_FUNCTION_CALL.name)
        return read_tool_choice(tools, choice, _FUNCTION_CALL.name, is_parallel=False)
    return read_tool_choice(
        parse_tools(body.raw(_TOOLS.name), _TOOLS.name),
        body.raw(_TOOL_CHOICE.name),
        _TOOL_CHOICE.name,
        is_parallel=_PARALLEL.value_in(body, True),
    )


def _functions(value: object) -> tuple[Tool, ...]:
    name = _FUNCTIONS.name
    listed = elements(value, name, "a list of functions")
    return checked_tools(tuple(parse_function(each, where) for each, where in listed), name)


def read_tool_choice(tools: tuple[Tool, ...], value: object, param: str, *, is_parallel: bool) -> ToolUse:
    """Return the tools with what may be done with them: a word, a tool that is named, or OpenAI's `allowed_tools`.

    A tool that is named is called exactly once, as OpenAI has it.
    """
    match value:
        case None | "auto":
            return ToolUse(tools, is_parallel=is_parallel)
        case "none":
            return ToolUse(tools, ToolChoice.NONE)
        case "required":
            use = ToolUse(tools, ToolChoice.REQUIRED, is_parallel=is_parallel)
        case {"function": {"name": str() as name}} | {"name": str() as name}:
            use = ToolUse(tools, ToolChoice.REQUIRED, frozenset({name}), is_parallel=False)
        case {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto" | "required" as mode, "tools": list() as named},
        }:
            names = frozenset(_named(each, param) for each in named)
            use = ToolUse(tools, ToolChoice(mode), names, is_parallel=is_parallel)
        case _:
            raise wrong(param, "none, auto, required, or an object that names a tool")
    known = {tool.name for tool in tools}
    unknown = sorted((use.allowed or frozenset()) - known)
    if unknown:
        raise RequestError(f"'{param}' names {unknown[0]!r}, which is none of the tools", param)
    if not use.callable:
        raise RequestError(f"'{param}' asks for a call, but there is no tool", param)
    return use


def _named(value: object, param: str) -> str:
    match value:
        case {"function": {"name": str() as name}} | {"name": str() as name}:
            return name
    raise RequestError(f"each of the allowed tools in '{param}' must name one", param)
