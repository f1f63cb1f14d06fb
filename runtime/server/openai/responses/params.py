"""What a response in OpenAI's newer API is asked with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runtime.chat.conversation import Conversation, Tool, ToolUse
from runtime.chat.messages import Message, Role
from runtime.checked import JsonObject, elements, wrong
from runtime.engine.values.request import GenerationParams
from runtime.engine.values.sampling import SamplingParams
from runtime.server.asking.conversation import ChatDefaults, read_tool_choice
from runtime.server.asking.fields import OBJECT, OBJECTS, Field, Flag, Integer, Special, Text
from runtime.server.asking.formats import read_format
from runtime.server.asking.sampling import (
    LORA,
    MODEL,
    PROGRESS_FIELDS,
    SAMPLING_FIELDS,
    STOP,
    STREAM,
    held_to,
    read_generation,
    read_max_tokens,
    with_progress,
)
from runtime.server.asking.tools import check_is_function, checked_tools, parse_function
from runtime.server.service import Service

INPUT = Special(
    "input",
    "A text, or a list of items: messages, thinking, calls of functions and their results.",
    {"type": ["string", "array"]},
)
INSTRUCTIONS = Text("instructions", "A system message for this response alone.")
PREVIOUS = Text("previous_response_id", "The kept response to go on from.")
_MAX_OUTPUT_TOKENS = Integer("max_output_tokens", "Longest output in tokens, thinking included.")
_TEXT = Special("text", "text.format: the form that the output follows.", OBJECT)
_TOOLS = Special("tools", "Functions that the model may call.", OBJECTS)
_TOOL_CHOICE = Special("tool_choice", "Whether to call any, or which one.", {"type": ["string", "object"]})
_PARALLEL = Flag("parallel_tool_calls", "Whether one answer may hold several calls.")
_REASONING = Special("reasoning", "reasoning.effort: how much the model thinks; none: not at all.", OBJECT)
_STORE = Flag("store", "Keep the response, in memory, for later requests to go on from.")
_TOP_LOGPROBS = Integer("top_logprobs", "Report this many of the likeliest tokens beside each token.", low=0, high=20)
_INCLUDE = Special(
    "include",
    "message.output_text.logprobs adds logprobs; OpenAI's other words have no effect.",
    {"type": "array", "items": {"type": "string"}},
)
_METADATA = Special("metadata", "Texts that are kept with the response.", OBJECT)
_TRUNCATION = Text(
    "truncation",
    "auto: leave out the oldest turns of an input that is too long for the context; disabled: refuse the input.",
)
FIELDS: tuple[Field, ...] = (
    *(INPUT, INSTRUCTIONS, PREVIOUS, MODEL, _MAX_OUTPUT_TOKENS, _TEXT, _TOOLS, _TOOL_CHOICE, _PARALLEL, _REASONING),
    *(STREAM, _STORE, _TOP_LOGPROBS, _INCLUDE, _METADATA, _TRUNCATION, *PROGRESS_FIELDS, STOP, LORA, *SAMPLING_FIELDS),
)
# Answers would differ by them, and there is nothing here to do it with.
_REFUSED: dict[str, tuple[object, ...]] = {"background": (False,), "conversation": (), "prompt": ()}
_ECHOED = (Text("user", ""), Text("safety_identifier", ""), Text("prompt_cache_key", ""))
_LOGPROBS = "message.output_text.logprobs"


@dataclass(frozen=True, slots=True)
class ResponseParams:
    """A parsed request, less its input. `echoed` are the fields that a response repeats."""

    generation: GenerationParams
    tool_use: ToolUse
    instructions: str
    effort: str | None
    defaults: ChatDefaults
    is_streamed: bool
    is_stored: bool
    is_shortened: bool
    num_top_logprobs: int | None
    echoed: dict[str, Any]

    @classmethod
    def of(cls, body: JsonObject, service: Service) -> "ResponseParams":
        for name, harmless in _REFUSED.items():
            body.refuse(name, but=harmless)
        num_top_logprobs = _num_top_logprobs(body)
        generation = read_generation(body, service.defaults, _MAX_OUTPUT_TOKENS.name)
        generation = held_to(
            generation, read_format(body.nested(_TEXT.name).nested("format"), "text.format"), num_top_logprobs
        )
        is_streamed = STREAM.value_in(body, False)
        tool_use = _read_tool_use(body)
        return cls(
            generation=with_progress(generation, body, is_streamed=is_streamed),
            tool_use=tool_use,
            instructions=INSTRUCTIONS.value_in(body, ""),
            effort=_read_effort(body),
            defaults=service.chat,
            is_streamed=is_streamed,
            is_stored=_STORE.value_in(body, True),
            is_shortened=_read_truncation(body) == "auto",
            num_top_logprobs=num_top_logprobs,
            echoed={
                "model": MODEL.value_in(body, "") or service.model_alias,
                **_echoed(body, tool_use, generation.sampling, num_top_logprobs or 0),
            },
        )

    def conversation(self, messages: Sequence[Message]) -> Conversation:
        system = [Message(Role.SYSTEM, self.instructions)] if self.instructions else []
        effort = {"reasoning_effort": self.effort} if self.effort not in (None, "none") else {}
        return Conversation(
            (*system, *messages),
            tool_use=self.tool_use,
            thinking=False if self.effort == "none" else self.defaults.thinking,
            splits_thinking=self.defaults.splits_thinking,
            variables={**self.defaults.variables, **effort},
            parses_special=self.defaults.parses_special,
        )


def _echoed(body: JsonObject, tool_use: ToolUse, sampling: SamplingParams, num_top_logprobs: int) -> dict[str, Any]:
    return {
        "instructions": INSTRUCTIONS.value_in(body, None),
        "previous_response_id": PREVIOUS.value_in(body, None),
        "max_output_tokens": read_max_tokens(body, _MAX_OUTPUT_TOKENS.name, default=None),
        "max_tool_calls": body.integer("max_tool_calls", None),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_logprobs": num_top_logprobs,
        "tools": [_tool_json(tool) for tool in tool_use.tools],
        "tool_choice": body.raw(_TOOL_CHOICE.name) or "auto",
        "parallel_tool_calls": tool_use.is_parallel,
        "reasoning": {"effort": _read_effort(body), "summary": None},
        "text": _echoed_text(body),
        "store": _STORE.value_in(body, True),
        "metadata": _read_metadata(body),
        "background": False,
        "service_tier": "default",
        "truncation": _read_truncation(body),
        **{field.name: value for field in _ECHOED if (value := field.value_in(body, None)) is not None},
    }


def _read_effort(body: JsonObject) -> str | None:
    return body.nested(_REASONING.name).text("effort", None)


def _read_truncation(body: JsonObject) -> str:
    truncation = _TRUNCATION.value_in(body, "disabled")
    if truncation not in ("auto", "disabled"):
        raise wrong(_TRUNCATION.name, "auto or disabled")
    return truncation


def _num_top_logprobs(body: JsonObject) -> int | None:
    include = body.raw(_INCLUDE.name) or []
    if not isinstance(include, list) or not all(isinstance(each, str) for each in include):
        raise wrong(_INCLUDE.name, "a list of texts")
    num_top = _TOP_LOGPROBS.value_in(body, 0)
    return num_top if num_top or _LOGPROBS in include else None


def _read_metadata(body: JsonObject) -> dict[str, str]:
    metadata = body.raw(_METADATA.name)
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise wrong(_METADATA.name, "an object of texts")
    return metadata


def _echoed_text(body: JsonObject) -> dict[str, Any]:
    text = body.nested(_TEXT.name)
    return {"format": {"type": "text"}, **{name: text.raw(name) for name in text if name in text}}


def _read_tool_use(body: JsonObject) -> ToolUse:
    given, choice = body.raw(_TOOLS.name) or [], body.raw(_TOOL_CHOICE.name)
    tools = tuple(_read_tool(each, where) for each, where in elements(given, _TOOLS.name, "a list of functions"))
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":  # one level less than elsewhere
        choice = {"type": "allowed_tools", "allowed_tools": choice}
    is_parallel = _PARALLEL.value_in(body, True)
    return read_tool_choice(checked_tools(tools, _TOOLS.name), choice, _TOOL_CHOICE.name, is_parallel=is_parallel)


def _read_tool(value: object, param: str) -> Tool:
    if isinstance(value, dict):
        check_is_function(JsonObject(value, param), value.get("type"))
    return parse_function(value, param)


def _tool_json(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.is_strict,
    }
