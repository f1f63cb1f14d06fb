"""What a response in OpenAI's newer API goes on from: a list of items, to the messages of a conversation.

An item is smaller than a message: the assistant's thinking, its words and each of its calls are items of their own.
Those of one turn become one message, since that is how chat templates write a turn down.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runtime.chat.messages import Message, Role, ToolCall
from runtime.checked import JsonObject, elements
from runtime.errors import RequestError
from runtime.server.asking.messages import parse_arguments, parse_content

FindItem = Callable[[str], Mapping[str, Any] | None]
Item = dict[str, Any]

_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM, "developer": Role.SYSTEM}


def read_items(value: object, find: FindItem) -> list[Item]:
    """Return a request's `input` as items, references to earlier ones looked up. Raises RequestError."""
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    listed = elements(value, "input", "a text or a list of at least one item", is_filled=True)
    return [_read_item(JsonObject.of(each, where), find) for each, where in listed]


def _read_item(item: JsonObject, find: FindItem) -> Item:
    kind = item.raw("type")
    if kind != "item_reference" and (kind is not None or "role" in item.fields):
        return _complete(item.fields)
    item_id = item.raw("id")
    found = find(item_id) if isinstance(item_id, str) else None
    if found is None:
        raise RequestError(f"'{item.path}' refers to an item that isn't kept here; send the item itself", item.path)
    return dict(found)


def _complete(item: Mapping[str, Any]) -> Item:
    """Return an item as it is kept and listed: with a type, an id, and its text in a part."""
    kept = {name: value for name, value in item.items() if value is not None}
    text = kept.get("content")
    if isinstance(text, str):
        is_output = kept.get("role") == "assistant"
        part = {"type": "output_text", "annotations": [], "logprobs": []} if is_output else {"type": "input_text"}
        kept["content"] = [{**part, "text": text}]
    return {"id": f"item_{secrets.token_hex(16)}", "type": "message", "status": "completed", **kept}


def messages_of(items: Sequence[Item], param: str = "input") -> list[Message]:
    """Return the messages that items make. Raises RequestError that names the item which is wrong."""
    turns = _Turns()
    for index, item in enumerate(items):
        _take(turns, JsonObject(item, f"{param}[{index}]"))
    return turns.end()


class _Turns:
    """Messages, the last of which may be an assistant's that still grows."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._reasoning: list[str] = []
        self._text: str | None = None
        self._calls: list[ToolCall] = []

    def think(self, text: str) -> None:
        if self._text is not None or self._calls:
            self._end_turn()
        self._reasoning.append(text)

    def say(self, text: str) -> None:
        if self._text is not None or self._calls:
            self._end_turn()
        self._text = text

    def call(self, call: ToolCall) -> None:
        self._calls.append(call)

    def add(self, message: Message) -> None:
        self._end_turn()
        self._messages.append(message)

    def end(self) -> list[Message]:
        self._end_turn()
        return self._messages

    def _end_turn(self) -> None:
        reasoning = "\n".join(self._reasoning)
        if self._text is not None or self._calls or reasoning:
            self._messages.append(
                Message(Role.ASSISTANT, self._text or "", reasoning=reasoning, tool_calls=tuple(self._calls))
            )
        self._reasoning, self._text, self._calls = [], None, []


def _take(turns: _Turns, item: JsonObject) -> None:
    attachments: list[bytes] = []
    match item.raw("type"):
        case "message":
            role = item.choice("role", _ROLES)
            text = parse_content(item.raw("content"), item.path_of("content"), attachments)
            if role is Role.ASSISTANT:
                turns.say(text)
            else:
                turns.add(Message(role, text, attachments=tuple(attachments)))
        case "reasoning":
            turns.think(_reasoning(item))
        case "function_call":
            arguments = parse_arguments(item.raw("arguments"), item.path_of("arguments"))
            turns.call(ToolCall(_filled(item, "call_id"), _filled(item, "name"), arguments))
        case "function_call_output":
            result = parse_content(item.raw("output"), item.path_of("output"), attachments)
            turns.add(Message(Role.TOOL, result, tool_call_id=_filled(item, "call_id"), attachments=tuple(attachments)))
        case kind:
            shown = kind if isinstance(kind, str) else "untyped"
            raise RequestError(
                f"'{item.path}' is an item of type {shown}, which can't be used here", item.path_of("type")
            )


def _reasoning(item: JsonObject) -> str:
    """Return the thinking, or the summary where only that was kept; empty where another server has encrypted it."""
    parts = item.raw("content") or item.raw("summary") or []
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise item.wrong("content", "a list of parts")
    listed = elements(parts, item.path_of("content"), "a list of parts")
    return "\n".join(_filled(JsonObject.of(part, where), "text") for part, where in listed)


def _filled(item: JsonObject, name: str) -> str:
    return item.required_text(name, is_filled=True)
