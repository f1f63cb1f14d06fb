"""Chats to JSON and back. What comes in is trusted with nothing: every field is checked and named when it is wrong.

A parent must come before its children, in a document as in the store. So there are no rings of parents, and whoever
walks the tree comes to an end.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

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


class _Fields:
    """The fields of a JSON object, and the words for where it is in its document. Absent and null mean the same."""

    def __init__(self, value: object, where: str = "") -> None:
        if not isinstance(value, dict):
            raise RequestError(f"'{where}' must be an object" if where else "the body must be a JSON object", where)
        self._value = value
        self._prefix = f"{where}." if where else ""

    def name(self, field: str) -> str:
        return self._prefix + field

    def wrong(self, field: str, wanted: str) -> RequestError:
        return RequestError(f"'{self.name(field)}' must be {wanted}", self.name(field))

    def has(self, field: str) -> bool:
        """Whether a field is there, be it null."""
        return field in self._value

    def text(self, field: str, default: str | None = None) -> str:
        value = self._value.get(field)
        value = default if value is None else value
        if not isinstance(value, str):
            raise self.wrong(field, "a text")
        return value

    def title(self) -> str:
        title = self.text("title", "")
        if len(title) > _MAX_TITLE:
            raise self.wrong("title", f"at most {_MAX_TITLE} characters long")
        return title

    def flag(self, field: str) -> bool:
        value = self._value.get(field)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(field, "true or false")
        return value is True

    def time(self, field: str, default: int) -> int:
        value = self._value.get(field)
        if value is None:
            return default
        is_whole = (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, float) and value.is_integer()
        )
        if not is_whole or not 0 <= value <= _MAX_TIME:
            raise self.wrong(field, "a time in milliseconds since 1970")
        return int(value)

    def id(self, field: str) -> str:
        return checked_id(self._value.get(field), self.name(field))

    def optional_id(self, field: str) -> str | None:
        return None if self._value.get(field) is None else self.id(field)

    def object(self, field: str, max_bytes: int) -> Mapping[str, Any]:
        value = self._value.get(field)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.wrong(field, "an object")
        if len(to_json(value).encode()) > max_bytes:
            raise self.wrong(field, f"at most {max_bytes} bytes of JSON")
        return value

    def list(self, field: str, max_items: int) -> list[Any]:
        value = self._value.get(field)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(field, "a list")
        if len(value) > max_items:
            raise self.wrong(field, f"a list of at most {max_items}")
        return value


def checked_id(value: object, name: str) -> str:
    """Return an id as the page chooses it. Raises RequestError, which calls it `name`."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise RequestError(f"'{name}' must be an id of 1 to 64 letters, digits, dashes and underscores", name)
    return value


def checked_chat_id(value: object, name: str) -> str:
    """Return a chat's id; as `checked_id`."""
    found = checked_id(value, name)
    if found in RESERVED_IDS:
        raise RequestError(f"'{name}' can't be {found!r}: that is an endpoint's name; choose another id", name)
    return found


def read_chat(value: object, chat_id: str, now: int, where: str = "") -> Chat:
    """Return a whole chat; times it doesn't name are `now`. Raises RequestError, ChatTooLarge among them."""
    fields = _Fields(value, where)
    messages: dict[str, Message] = {}
    for number, each in enumerate(fields.list("messages", MAX_MESSAGES)):
        place = fields.name(f"messages[{number}]")
        message = read_message(each, _Fields(each, place).id("id"), now, place)
        if message.id in messages:
            raise RequestError(f"'{place}.id' is that of an earlier message; ids must be unique", f"{place}.id")
        if message.parent is not None and message.parent not in messages:
            raise RequestError(f"'{place}.parent' must name an earlier message", f"{place}.parent")
        messages[message.id] = message
    if sum(map(num_bytes, messages.values())) > MAX_CHAT_BYTES:
        raise ChatTooLarge(MAX_CHAT_BYTES)
    leaf = fields.optional_id("leaf")
    if leaf is not None and leaf not in messages:
        raise fields.wrong("leaf", "the id of one of the messages")
    return Chat(
        id=chat_id,
        title=fields.title(),
        is_pinned=fields.flag("is_pinned"),
        created=fields.time("created", now),
        updated=fields.time("updated", now),
        leaf=leaf if leaf is not None else next(reversed(messages), None),
        settings=fields.object("settings", _MAX_SETTINGS_BYTES),
        messages=tuple(messages.values()),
    )


def read_message(value: object, message_id: str, now: int, where: str = "") -> Message:
    """Return one message; whether its parent is there is for others to check. Raises as `read_chat`."""
    fields = _Fields(value, where)
    role = fields.text("role")
    if role not in _ROLES:
        raise fields.wrong("role", f"one of {', '.join(_ROLES)}")
    attachments = fields.list("attachments", _MAX_ATTACHMENTS)
    if not all(isinstance(attachment, dict) for attachment in attachments):
        raise fields.wrong("attachments", "a list of objects")
    message = Message(
        id=message_id,
        parent=fields.optional_id("parent"),
        role=role,
        content=fields.text("content", ""),
        reasoning=fields.text("reasoning", ""),
        created=fields.time("created", now),
        stats=fields.object("stats", _MAX_STATS_BYTES),
        attachments=tuple(attachments),
        is_partial=fields.flag("is_partial"),
    )
    if num_bytes(message) > MAX_CHAT_BYTES:
        raise ChatTooLarge(MAX_CHAT_BYTES)
    return message


def read_changes(value: object) -> ChatChanges:
    """Return what a request changes of a chat. Raises RequestError when that is nothing."""
    fields = _Fields(value)
    changes: ChatChanges = {}
    if fields.has("title"):
        changes["title"] = fields.title()
    if fields.has("is_pinned"):
        changes["is_pinned"] = fields.flag("is_pinned")
    if fields.has("leaf"):
        changes["leaf"] = fields.optional_id("leaf")
    if fields.has("settings"):
        changes["settings"] = fields.object("settings", _MAX_SETTINGS_BYTES)
    if not changes:
        raise RequestError("nothing to change: give title, is_pinned, leaf or settings")
    return changes


def read_message_changes(value: object) -> ChatChanges:
    """Return what a message brings along for its chat: a title, a leaf."""
    fields = _Fields(value)
    changes: ChatChanges = {}
    if fields.has("title"):
        changes["title"] = fields.title()
    if fields.has("leaf"):
        changes["leaf"] = fields.optional_id("leaf")
    return changes


def read_document(value: object, now: int) -> list[Chat]:
    """Return the chats of an export. Raises RequestError when it is none, or when any of its chats is wrong."""
    fields = _Fields(value)
    if fields.text("format", "") != FORMAT:
        raise fields.wrong("format", f"{FORMAT!r}; this is no export of chats")
    if fields.has("error"):
        raise RequestError("this export was broken off, so it is not complete; export again", "error")
    version = fields.time("version", 0)
    if not 1 <= version <= VERSION:
        raise RequestError(f"'version' is {version}, but only {VERSION} can be read; use a newer program", "version")
    chats = []
    for number, each in enumerate(fields.list("chats", MAX_CHATS)):
        place = f"chats[{number}]"
        chats.append(read_chat(each, _Fields(each, place).id("id"), now, place))
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
