"""Chats to JSON and back. What comes in is trusted with nothing: every field is checked and named when it is wrong.

A parent must come before its children, in a document as in the store. So there are no rings of parents, and whoever
walks the tree comes to an end.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from runtime.checked import JsonObject, elements, wrong
from runtime.errors import ChatTooLarge, RequestError
from runtime.store.chat import MAX_CHAT_BYTES, MAX_MESSAGES, Chat, ChatChanges, ChatSummary, Message

FORMAT = "holdall.chats"
VERSION = 1
MAX_CHATS = 10_000  # in one document
RESERVED_IDS = frozenset({"export", "import"})  # they name endpoints where chats are named, too

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ROLES = ("system", "user", "assistant", "tool")
_MAX_TITLE = 500
_MAX_SETTINGS_BYTES = 256 << 10
_MAX_STATS_BYTES = 16 << 10
_MAX_ATTACHMENTS = 100
_MAX_TIME = 2**53 - 1  # JavaScript's largest whole number


def _title(fields: JsonObject) -> str:
    title = fields.text("title", "")
    if len(title) > _MAX_TITLE:
        raise fields.wrong("title", f"at most {_MAX_TITLE} characters long")
    return title


def _time(fields: JsonObject, name: str, default: int) -> int:
    return fields.integer(name, default, low=0, high=_MAX_TIME, wanted="a time in milliseconds since 1970")


def _id(fields: JsonObject, name: str) -> str:
    return checked_id(fields.raw(name), fields.path_of(name))


def _optional_id(fields: JsonObject, name: str) -> str | None:
    return _id(fields, name) if name in fields else None


def _object(fields: JsonObject, name: str, max_bytes: int) -> Mapping[str, Any]:
    value = fields.raw(name)
    if value is None:
        return {}
    found = JsonObject.of(value, fields.path_of(name)).fields
    if len(to_json(found).encode()) > max_bytes:
        raise fields.wrong(name, f"at most {max_bytes} bytes of JSON")
    return found


def _elements(fields: JsonObject, name: str, max_items: int) -> Iterator[tuple[object, str]]:
    value = fields.raw(name)
    found = elements([] if value is None else value, fields.path_of(name), "a list")
    if value is not None and len(value) > max_items:
        raise fields.wrong(name, f"a list of at most {max_items}")
    return found


def is_id(value: object) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def checked_id(value: object, name: str) -> str:
    """Return an id as the page chooses it. Raises RequestError, which calls it `name`."""
    if not isinstance(value, str) or not is_id(value):
        raise wrong(name, "an id of 1 to 64 letters, digits, dashes and underscores")
    return value


def checked_chat_id(value: object, name: str) -> str:
    """Return a chat's id; as `checked_id`."""
    found = checked_id(value, name)
    if found in RESERVED_IDS:
        raise RequestError(f"'{name}' can't be {found!r}: that is an endpoint's name; choose another id", name)
    return found


def read_chat(value: object, chat_id: str, now: int, where: str = "") -> Chat:
    """Return a whole chat; times it doesn't name are `now`. Raises RequestError, ChatTooLarge among them."""
    fields = JsonObject.of(value, where)
    messages: dict[str, Message] = {}
    for each, place in _elements(fields, "messages", MAX_MESSAGES):
        message = read_message(each, _id(JsonObject.of(each, place), "id"), now, place)
        if message.id in messages:
            raise RequestError(f"'{place}.id' is that of an earlier message; ids must be unique", f"{place}.id")
        if message.parent is not None and message.parent not in messages:
            raise RequestError(f"'{place}.parent' must name an earlier message", f"{place}.parent")
        messages[message.id] = message
    if sum(map(num_bytes, messages.values())) > MAX_CHAT_BYTES:
        raise ChatTooLarge(MAX_CHAT_BYTES)
    leaf = _optional_id(fields, "leaf")
    if leaf is not None and leaf not in messages:
        raise fields.wrong("leaf", "the id of one of the messages")
    return Chat(
        id=chat_id,
        title=_title(fields),
        is_pinned=fields.flag("is_pinned", False),
        created=_time(fields, "created", now),
        updated=_time(fields, "updated", now),
        leaf=leaf if leaf is not None else next(reversed(messages), None),
        settings=_object(fields, "settings", _MAX_SETTINGS_BYTES),
        messages=tuple(messages.values()),
    )


def read_message(value: object, message_id: str, now: int, where: str = "") -> Message:
    """Return one message; whether its parent is there is for others to check. Raises as `read_chat`."""
    fields = JsonObject.of(value, where)
    role = fields.required_text("role")
    if role not in _ROLES:
        raise fields.wrong("role", f"one of {', '.join(_ROLES)}")
    attachments: list[Any] = [each for each, _place in _elements(fields, "attachments", _MAX_ATTACHMENTS)]
    if not all(isinstance(attachment, dict) for attachment in attachments):
        raise fields.wrong("attachments", "a list of objects")
    message = Message(
        id=message_id,
        parent=_optional_id(fields, "parent"),
        role=role,
        content=fields.text("content", ""),
        reasoning=fields.text("reasoning", ""),
        created=_time(fields, "created", now),
        stats=_object(fields, "stats", _MAX_STATS_BYTES),
        attachments=tuple(attachments),
        is_partial=fields.flag("is_partial", False),
    )
    if num_bytes(message) > MAX_CHAT_BYTES:
        raise ChatTooLarge(MAX_CHAT_BYTES)
    return message


def read_changes(value: object) -> ChatChanges:
    """Return what a request changes of a chat. Raises RequestError when that is nothing."""
    fields = JsonObject.of(value, "")
    changes: ChatChanges = {}
    if "title" in fields.fields:
        changes["title"] = _title(fields)
    if "is_pinned" in fields.fields:
        changes["is_pinned"] = fields.flag("is_pinned", False)
    if "leaf" in fields.fields:
        changes["leaf"] = _optional_id(fields, "leaf")
    if "settings" in fields.fields:
        changes["settings"] = _object(fields, "settings", _MAX_SETTINGS_BYTES)
    if not changes:
        raise RequestError("nothing to change: give title, is_pinned, leaf or settings")
    return changes


def read_message_changes(value: object) -> ChatChanges:
    """Return what a message brings along for its chat: a title, a leaf."""
    fields = JsonObject.of(value, "")
    changes: ChatChanges = {}
    if "title" in fields.fields:
        changes["title"] = _title(fields)
    if "leaf" in fields.fields:
        changes["leaf"] = _optional_id(fields, "leaf")
    return changes


def read_document(value: object, now: int) -> list[Chat]:
    """Return the chats of an export. Raises RequestError when it is none, or when any of its chats is wrong."""
    fields = JsonObject.of(value, "")
    if fields.text("format", "") != FORMAT:
        raise fields.wrong("format", f"{FORMAT!r}; this is no export of chats")
    if "error" in fields.fields:
        raise RequestError("this export was broken off, so it is not complete; export again", "error")
    version = _time(fields, "version", 0)
    if not 1 <= version <= VERSION:
        raise RequestError(f"'version' is {version}, but only {VERSION} can be read; use a newer program", "version")
    chats = []
    for each, place in _elements(fields, "chats", MAX_CHATS):
        chats.append(read_chat(each, _id(JsonObject.of(each, place), "id"), now, place))
    return chats


def num_bytes(message: Message) -> int:
    """Return what a message counts towards MAX_CHAT_BYTES."""
    parts = (message.content, message.reasoning, to_json(message.stats), to_json(message.attachments))
    return sum(len(part.encode()) for part in parts)


def chat_to_json(chat: Chat) -> dict[str, Any]:
    return {
        "id": chat.id,
        "title": chat.title,
        "is_pinned": chat.is_pinned,
        "created": chat.created,
        "updated": chat.updated,
        "leaf": chat.leaf,
        "settings": chat.settings,
        "messages": [message_to_json(message) for message in chat.messages],
    }


def message_to_json(message: Message) -> dict[str, Any]:
    return {
        "id": message.id,
        "parent": message.parent,
        "role": message.role,
        "content": message.content,
        "reasoning": message.reasoning,
        "created": message.created,
        "stats": message.stats,
        "attachments": list(message.attachments),
        "is_partial": message.is_partial,
    }


def summary_to_json(summary: ChatSummary, *, with_snippet: bool) -> dict[str, Any]:
    value = {
        "id": summary.id,
        "title": summary.title,
        "is_pinned": summary.is_pinned,
        "created": summary.created,
        "updated": summary.updated,
        "num_messages": summary.num_messages,
    }
    return {**value, "snippet": summary.snippet} if with_snippet else value


def to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
