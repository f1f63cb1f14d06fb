"""What a response in OpenAI's newer API goes on from: a list of items, to the messages of a conversation.

An item is smaller than a message: the assistant's thinking, its words and each of its calls are items of their own.
Those of one turn become one message, since that is how chat templates write a turn down.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runtime.chat.messages import Message, Role, ToolCall
from runtime.errors import RequestError
from runtime.server.asking.messages import parse_arguments, parse_content

FindItem = Callable[[str], Mapping[str, Any] | None]
Item = dict[str, Any]

_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM, "developer": Role.SYSTEM}


def read_items(value: object, find: FindItem) -> list[Item]:
    """Return a request's `input` as items, references to earlier ones looked up. Raises RequestError."""
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise RequestError("'input' must be a text or a list of at least one item", "input")
    return [_read_item(each, f"input[{index}]", find) for index, each in enumerate(value)]


def _read_item(value: object, param: str, find: FindItem) -> Item:
    if not isinstance(value, dict):
        raise RequestError(f"'{param}' must be an object", param)
    kind = value.get("type")
    if kind != "item_reference" and (kind is not None or "role" in value):
        return _complete(value)
    item_id = value.get("id")
    found = find(item_id) if isinstance(item_id, str) else None
    if found is None:
        raise RequestError(f"'{param}' refers to an item that isn't kept here; send the item itself", param)
    return dict(found)


def _complete(item: Item) -> Item:
    """Return an item as it is kept and told again: with a type, an id, and its text in a part."""
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
        _take(turns, item, f"{param}[{index}]")
    return turns.end()


class _Turns:
    """Messages, the last of which may be an assistant's that still grows."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._reasoning = ""
        self._text: str | None = None
        self._calls: list[ToolCall] = []

    def think(self, text: str) -> None:
        if self._text is not None or self._calls:
            self._end_turn()
        self._reasoning = f"{self._reasoning}\n{text}" if self._reasoning else text

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
        if self._text is not None or self._calls or self._reasoning:
            self._messages.append(
                Message(Role.ASSISTANT, self._text or "", reasoning=self._reasoning, tool_calls=tuple(self._calls))
            )
        self._reasoning, self._text, self._calls = "", None, []


def _take(turns: _Turns, item: Item, param: str) -> None:
    attachments: list[bytes] = []
    match item["type"]:
        case "message":
            name = item.get("role")
            role = _ROLES.get(name) if isinstance(name, str) else None
            if role is None:
                raise RequestError(f"'{param}.role' must be one of {', '.join(_ROLES)}", f"{param}.role")
            text = parse_content(item.get("content"), f"{param}.content", attachments)
            if role is Role.ASSISTANT:
                turns.say(text)
            else:
                turns.add(Message(role, text, attachments=tuple(attachments)))
        case "reasoning":
            turns.think(_reasoning(item, param))
        case "function_call":
            arguments = parse_arguments(item.get("arguments"), f"{param}.arguments")
            turns.call(ToolCall(_text(item, "call_id", param), _text(item, "name", param), arguments))
        case "function_call_output":
            result = parse_content(item.get("output"), f"{param}.output", attachments)
            call_id = _text(item, "call_id", param)
            turns.add(Message(Role.TOOL, result, tool_call_id=call_id, attachments=tuple(attachments)))
        case kind:
            shown = kind if isinstance(kind, str) else "untyped"
            raise RequestError(f"'{param}' is an item of type {shown}, which can't be used here", f"{param}.type")


def _reasoning(item: Item, param: str) -> str:
    """Return the thinking, or the summary where only that was kept; none where it is encrypted by somebody else."""
    parts = item.get("content") or item.get("summary") or []
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise RequestError(f"'{param}.content' must be a list of parts", f"{param}.content")
    return "\n".join(_text(part, "text", f"{param}.content[{index}]") for index, part in enumerate(parts))


def _text(item: Mapping[str, Any], name: str, param: str) -> str:
    found = item.get(name)
    if not isinstance(found, str) or not found:
        raise RequestError(f"'{param}.{name}' must be a text", f"{param}.{name}")
    return found
