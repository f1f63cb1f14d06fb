"""What an answer is made of, in the order that the model writes it, and the message that it adds up to. Values only."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from runtime.chat.messages import Message, Role, ToolCall

_MAX_DIGITS = 300  # with more, a number is beyond the floats that JavaScript reads all numbers as


@dataclass(frozen=True, slots=True)
class TextPart:
    """More of the answer itself."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """More of the thinking before it."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """The model calls a tool; `index` counts the answer's calls from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsPart:
    """More of the JSON text that is a call's arguments."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The call's arguments are complete: its parts together are a JSON object."""

    index: int


AnswerEvent = TextPart | ReasoningPart | CallBegun | ArgumentsPart | CallEnded


def arguments_in(written: str) -> dict[str, Any]:
    """Return the arguments of a call as an object, which is empty where the answer's limit has cut them off.

    A number that no reader of JSON could take, of thousands of digits or beyond all floats, is there as a text.
    """
    try:
        return dict(json.loads(written, parse_int=_whole_number, parse_float=_number))
    except (ValueError, RecursionError):
        return {}


def _whole_number(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


def _number(digits: str) -> float | str:
    value = float(digits)
    return value if math.isfinite(value) else digits


def whole_message(events: Iterable[AnswerEvent]) -> Message:
    """Return the assistant's message that the events of one answer add up to.

    A call that was cut off is there with what there is of its arguments.
    """
    texts: list[str] = []
    reasoning: list[str] = []
    begun: list[CallBegun] = []
    arguments: list[list[str]] = []
    for event in events:
        match event:
            case TextPart(text):
                texts.append(text)
            case ReasoningPart(text):
                reasoning.append(text)
            case CallBegun():
                begun.append(event)
                arguments.append([])
            case ArgumentsPart(index, text):
                arguments[index].append(text)
    calls = tuple(ToolCall(call.id, call.name, "".join(arguments[call.index])) for call in begun)
    return Message(Role.ASSISTANT, "".join(texts), "".join(reasoning), calls)
