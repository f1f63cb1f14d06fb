"""Chats to test with."""

from typing import Any

from runtime.store.chat import Chat, Message


def message(id: str = "m1", parent: str | None = None, **fields: Any) -> Message:  # noqa: A002  # as the field is named
    return Message(id=id, parent=parent, **{"role": "user", "content": f"text of {id}", "created": 5, **fields})


def chat(id: str = "c1", *messages: Message, **fields: Any) -> Chat:  # noqa: A002  # as the field is named
    messages = messages or (message("m1"), message("m2", "m1", role="assistant"))
    given = {"title": f"title of {id}", "created": 10, "updated": 20, "leaf": messages[-1].id, **fields}
    return Chat(id=id, messages=messages, **given)
