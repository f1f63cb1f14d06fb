"""The chats of one bundle. Each call is one transaction: it is in the file when it returns, or nothing of it is.

Used by one thread at a time. Another process of the same bundle may have the same file open; each sees what the other
has done. Calls raise HistoryError when the file fails and RequestError for what can't be.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime.checked import wrong
from runtime.errors import ChatTooLarge, RequestError, UnreadableChat
from runtime.store import database
from runtime.store.chat import MAX_CHAT_BYTES, MAX_MESSAGES, Chat, ChatChanges, ChatSummary, Message, now
from runtime.store.documents import RESERVED_IDS, is_id, num_bytes, read_chat, to_json
from runtime.store.search import fold, snippet, words_of

_MAX_NESTING = 128  # of JSON in a cell; requests may bring no more

# SQLite keeps any type in any column, and a file may come from anywhere: a list is to show the rest of it all the same.
_SUMMARIES = """
    SELECT id, CAST(title AS TEXT), CAST(is_pinned AS INTEGER), CAST(created AS INTEGER), CAST(updated AS INTEGER),
        (SELECT COUNT(*) FROM messages WHERE chat = chats.id)
    FROM chats ORDER BY is_pinned DESC, updated DESC, id
"""
_UPSERT_CHAT = """
    INSERT INTO chats (id, title, folded, is_pinned, created, updated, leaf, settings) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET title = excluded.title, folded = excluded.folded, is_pinned = excluded.is_pinned,
        created = excluded.created, updated = excluded.updated, leaf = excluded.leaf, settings = excluded.settings
"""
_UPSERT_MESSAGE = """
    INSERT INTO messages (chat, id, parent, role, created, is_partial, num_bytes, stats, folded, content, reasoning,
        attachments) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (chat, id) DO UPDATE SET role = excluded.role, is_partial = excluded.is_partial,
        num_bytes = excluded.num_bytes, stats = excluded.stats, folded = excluded.folded, content = excluded.content,
        reasoning = excluded.reasoning, attachments = excluded.attachments
"""


class ChatStore:
    """An open file of chats."""

    def __init__(self, path: Path, say: Callable[[str], None] = lambda _remark: None) -> None:
        """Open the file, made where there is none; `say` is called with what the person should know.

        Raises HistoryError.
        """
        self._connection = database.connect(path, say=say)

    def close(self) -> None:
        self._connection.close()

    def summaries(self, query: str = "") -> list[ChatSummary]:
        """Return the list, pinned chats first, then the newest; with a query, those in which each of its words is."""
        words = words_of(query)
        with self._reading():
            rows = self._connection.execute(_SUMMARIES).fetchall()
            found = self._search(words) if words else {row[0]: None for row in rows}
        return [
            ChatSummary(
                id=chat_id,
                title=title,
                is_pinned=bool(is_pinned),
                created=created,
                updated=updated,
                num_messages=num_messages,
                snippet=found[chat_id],
            )
            for chat_id, title, is_pinned, created, updated, num_messages in rows
            if chat_id in found and is_id(chat_id)
        ]

    def _search(self, words: Sequence[str]) -> dict[str, str | None]:
        """Return the ids of the chats that have all words, each with a piece of the first message that has one."""
        texts: dict[str, str | None] = {}
        found: set[str] | None = None
        for word in words:
            in_titles = {
                row[0] for row in self._connection.execute("SELECT id FROM chats WHERE instr(folded, ?)", [word])
            }
            in_messages = dict(
                self._connection.execute(
                    "SELECT chat, MIN(position) FROM messages WHERE instr(folded, ?) GROUP BY chat", [word]
                )
            )
            having = in_titles | in_messages.keys()
            found = having if found is None else found & having
            for chat_id in in_messages.keys() & found - texts.keys():
                query = "SELECT CAST(content AS TEXT), CAST(folded AS TEXT) FROM messages WHERE position = ?"
                content, folded = self._connection.execute(query, [in_messages[chat_id]]).fetchone()
                texts[chat_id] = snippet(content, folded, word)
        return {chat_id: texts.get(chat_id) for chat_id in found or ()}

    def chat(self, chat_id: str) -> Chat | None:
        """Return a whole chat, None when there is none of this id. Raises UnreadableChat.

        What the file holds is trusted no more than a document that comes in.
        """
        with self._reading():
            query = "SELECT title, is_pinned, created, updated, leaf, settings FROM chats WHERE id = ?"
            row = self._connection.execute(query, [chat_id]).fetchone()
            if row is None:
                return None
            try:
                found = dict(zip(("title", "is_pinned", "created", "updated", "leaf", "settings"), row, strict=True))
                found |= {"is_pinned": bool(found["is_pinned"]), "settings": _parsed(found["settings"])}
                chat = read_chat({**found, "messages": list(self._messages(chat_id))}, chat_id, 0)
                return replace(chat, leaf=found["leaf"])  # a document without one has the newest, a chat may have none
            except (RequestError, ValueError, TypeError, RecursionError) as error:
                raise UnreadableChat from error

    def _messages(self, chat_id: str) -> Iterator[Mapping[str, Any]]:
        """Yield the messages as a document has them, one more than a chat may hold at most."""
        rows = self._connection.execute(
            "SELECT id, parent, role, content, reasoning, created, stats, attachments, is_partial "
            "FROM messages WHERE chat = ? ORDER BY position LIMIT ?",
            [chat_id, MAX_MESSAGES + 1],
        )
        total = 0
        for message_id, parent, role, content, reasoning, created, stats, attachments, is_partial in rows:
            total += len(content) + len(reasoning) + len(attachments)
            if total > MAX_CHAT_BYTES:  # before it is all in memory
                raise ChatTooLarge(MAX_CHAT_BYTES)
            yield {
                "id": message_id,
                "parent": parent,
                "role": role,
                "content": content,
                "reasoning": reasoning,
                "created": created,
                "stats": _parsed(stats),
                "attachments": _parsed(attachments),
                "is_partial": bool(is_partial),
            }

    def ids(self) -> list[str]:
        """Return the ids of all chats, the oldest first."""
        with self._reading():
            rows = self._connection.execute("SELECT id FROM chats ORDER BY created, id")
            return [row[0] for row in rows if is_id(row[0])]

    def put_chat(self, chat: Chat) -> None:
        """Create a chat, or replace it with all its messages."""
        with self._writing():
            self._connection.execute("DELETE FROM messages WHERE chat = ?", [chat.id])
            self._insert(chat)

    def import_chats(self, chats: Iterable[Chat]) -> int:
        """Add chats, under new ids where theirs are taken; return how many."""
        count = 0
        with self._writing():
            taken = {row[0] for row in self._connection.execute("SELECT id FROM chats")} | RESERVED_IDS
            for chat in chats:
                chat_id = chat.id if chat.id not in taken else secrets.token_urlsafe(12)
                taken.add(chat_id)
                self._insert(chat, chat_id)
                count += 1
        return count

    def _insert(self, chat: Chat, chat_id: str | None = None) -> None:
        chat_id = chat_id or chat.id
        row = (chat.title, fold(chat.title), chat.is_pinned, chat.created, chat.updated, chat.leaf)
        self._connection.execute(_UPSERT_CHAT, (chat_id, *row, to_json(chat.settings)))
        self._connection.executemany(_UPSERT_MESSAGE, (_row(chat_id, message) for message in chat.messages))

    def change_chat(self, chat_id: str, changes: ChatChanges) -> bool:
        """Change some of a chat; return whether it is there."""
        values: dict[str, Any] = dict(changes)
        if "title" in changes:
            values["folded"] = fold(changes["title"])
        if "settings" in changes:
            values["settings"] = to_json(changes["settings"])
        with self._writing():
            if not self._has_chat(chat_id):
                return False
            if changes.get("leaf") is not None:
                self._require_message(chat_id, changes["leaf"], "leaf")
            self._update_chat(chat_id, values)
            return True

    def delete_chat(self, chat_id: str) -> bool:
        """Delete a chat; return whether it was there."""
        with self._writing():
            return self._connection.execute("DELETE FROM chats WHERE id = ?", [chat_id]).rowcount > 0

    def put_message(self, chat_id: str, message: Message, changes: ChatChanges) -> None:
        """Insert or replace a message, in a new chat where there is none, and change the chat as well.

        A new message that follows the leaf becomes it. A message keeps its parent, and the time it was made.
        """
        with self._writing():
            moment = now()
            is_new_chat = not self._has_chat(chat_id)
            if is_new_chat:
                self._insert(Chat(id=chat_id, title="", created=moment, updated=moment))
            is_new = self._check_place(chat_id, message)
            self._connection.execute(_UPSERT_MESSAGE, _row(chat_id, message))
            values: dict[str, Any] = {"updated": moment}
            if "title" in changes:
                values |= {"title": changes["title"], "folded": fold(changes["title"])}
            [leaf] = self._connection.execute("SELECT leaf FROM chats WHERE id = ?", [chat_id]).fetchone()
            if changes.get("leaf") is not None:
                self._require_message(chat_id, changes["leaf"], "leaf")
                values["leaf"] = changes["leaf"]
            elif is_new and leaf == message.parent:
                values["leaf"] = message.id
            self._update_chat(chat_id, values)

    def _check_place(self, chat_id: str, message: Message) -> bool:
        """Return whether a message is new, having checked that it may be where it wants to be and that it fits."""
        query = "SELECT parent, CAST(num_bytes AS INTEGER) FROM messages WHERE chat = ? AND id = ?"
        old = self._connection.execute(query, [chat_id, message.id]).fetchone()
        query = "SELECT COUNT(*), COALESCE(SUM(CAST(num_bytes AS INTEGER)), 0) FROM messages WHERE chat = ?"
        num_messages, total = self._connection.execute(query, [chat_id]).fetchone()
        if old is None:
            if message.parent is not None:
                self._require_message(chat_id, message.parent, "parent")
            if num_messages >= MAX_MESSAGES:
                raise RequestError(f"a chat can hold {MAX_MESSAGES} messages; begin a new one")
        elif message.parent not in (None, old[0]):
            raise RequestError("'parent' can't be changed; make a new message", "parent")
        if total - (old[1] if old else 0) + num_bytes(message) > MAX_CHAT_BYTES:
            raise ChatTooLarge(MAX_CHAT_BYTES)
        return old is None

    def delete_message(self, chat_id: str, message_id: str) -> bool:
        """Delete a message with all that hangs below it; return whether it was there.

        Its parent becomes the leaf when the leaf was among them.
        """
        with self._writing():
            query = "SELECT id, parent FROM messages WHERE chat = ? ORDER BY position"
            parents: Mapping[str, str | None] = dict(self._connection.execute(query, [chat_id]))
            if message_id not in parents:
                return False
            doomed = {message_id}
            for child, parent in parents.items():  # parents come before their children
                if parent in doomed:
                    doomed.add(child)
            self._connection.executemany(
                "DELETE FROM messages WHERE chat = ? AND id = ?", ((chat_id, each) for each in doomed)
            )
            values: dict[str, Any] = {"updated": now()}
            [leaf] = self._connection.execute("SELECT leaf FROM chats WHERE id = ?", [chat_id]).fetchone()
            if leaf in doomed:
                values["leaf"] = parents[message_id]
            self._update_chat(chat_id, values)
            return True

    def _has_chat(self, chat_id: str) -> bool:
        return self._connection.execute("SELECT 1 FROM chats WHERE id = ?", [chat_id]).fetchone() is not None

    def _require_message(self, chat_id: str, message_id: str | None, field: str) -> None:
        query = "SELECT 1 FROM messages WHERE chat = ? AND id = ?"
        if self._connection.execute(query, [chat_id, message_id]).fetchone() is None:
            raise wrong(field, "the id of a message of this chat")

    def _update_chat(self, chat_id: str, values: Mapping[str, Any]) -> None:
        columns = ", ".join(f"{column} = ?" for column in values)  # our own words, never a request's
        self._connection.execute(f"UPDATE chats SET {columns} WHERE id = ?", [*values.values(), chat_id])

    def _reading(self) -> AbstractContextManager[None]:
        return database.transaction(self._connection, writes=False)

    def _writing(self) -> AbstractContextManager[None]:
        return database.transaction(self._connection, writes=True)


def _row(chat_id: str, message: Message) -> tuple[Any, ...]:
    return (
        chat_id,
        message.id,
        message.parent,
        message.role,
        message.created,
        message.is_partial,
        num_bytes(message),
        to_json(message.stats),
        fold(message.content),
        message.content,
        message.reasoning,
        to_json(message.attachments),
    )


def _parsed(value: object) -> Any:
    """Return what a cell of JSON holds. Raises ValueError, TypeError or RecursionError."""
    parsed = json.loads(value)  # type: ignore[arg-type]
    to_json(parsed).encode()  # no infinite numbers, no half surrogates
    if _nests(parsed, _MAX_NESTING):
        raise ValueError("nested too deep")
    return parsed


def _nests(value: object, limit: int) -> bool:
    """Whether lists and objects are nested more than `limit` deep."""
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return limit == 0 or any(_nests(each, limit - 1) for each in inner)
