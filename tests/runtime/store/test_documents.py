import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ChatTooLarge, RequestError
from runtime.store import documents
from runtime.store.chat import MAX_CHAT_BYTES, MAX_MESSAGES, Chat, Message

ids = st.text(alphabet="abcXYZ019_-", min_size=1, max_size=64)
# No half surrogates: the server refuses them before anything is read.
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
json_objects = st.dictionaries(texts, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts, max_size=3)
times = st.integers(0, 2**53 - 1)


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    """Any chat that may be kept."""
    messages: list[Message] = []
    for message_id in draw(st.lists(ids, unique=True, max_size=6)):
        messages.append(
            Message(
                id=message_id,
                parent=draw(st.none() | st.sampled_from([each.id for each in messages])) if messages else None,
                role=draw(st.sampled_from(["system", "user", "assistant", "tool"])),
                content=draw(texts),
                reasoning=draw(texts),
                created=draw(times),
                stats=draw(json_objects),
                attachments=tuple(draw(st.lists(json_objects, max_size=2))),
                is_partial=draw(st.booleans()),
            )
        )
    return Chat(
        id=draw(ids.filter(lambda each: each not in documents.RESERVED_IDS)),
        title=draw(texts),
        is_pinned=draw(st.booleans()),
        created=draw(times),
        updated=draw(times),
        leaf=draw(st.sampled_from(messages)).id if messages else None,
        settings=draw(json_objects),
        messages=tuple(messages),
    )


@given(st.lists(chats(), max_size=3))
def test_an_export_is_read_back_as_it_was(exported: list[Chat]) -> None:
    document = {"format": "holdall.chats", "version": 1, "chats": [documents.chat_to_json(each) for each in exported]}
    assert documents.read_document(json.loads(documents.to_json(document)), now=0) == exported


def test_what_is_not_said_has_its_default() -> None:
    chat = documents.read_chat({"messages": [{"id": "a", "role": "user"}]}, "c", now=7)
    message = Message(id="a", parent=None, role="user", content="", created=7)
    assert chat == Chat(id="c", title="", created=7, updated=7, leaf="a", messages=(message,))


ONE = {"id": "a", "role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ([], ""),
        ({"title": 1}, "title"),
        ({"title": "x" * 501}, "title"),
        ({"is_pinned": 1}, "is_pinned"),
        ({"created": -1}, "created"),
        ({"created": 2**53}, "created"),
        ({"updated": "today"}, "updated"),
        ({"updated": True}, "updated"),
        ({"settings": []}, "settings"),
        ({"settings": {"a": "x" * 300_000}}, "settings"),
        ({"leaf": "b", "messages": [ONE]}, "leaf"),
        ({"messages": {}}, "messages"),
        ({"messages": [ONE] * (MAX_MESSAGES + 1)}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{**ONE, "id": ""}]}, "messages[0].id"),
        ({"messages": [{**ONE, "id": "a b"}]}, "messages[0].id"),
        ({"messages": [{**ONE, "id": "a\n"}]}, "messages[0].id"),
        ({"messages": [{**ONE, "id": "x" * 65}]}, "messages[0].id"),
        ({"messages": [{**ONE, "id": 5}]}, "messages[0].id"),
        ({"messages": [ONE, ONE]}, "messages[1].id"),
        ({"messages": [{**ONE, "parent": "a"}]}, "messages[0].parent"),
        ({"messages": [ONE, {**ONE, "id": "b", "parent": "c"}]}, "messages[1].parent"),
        ({"messages": [{**ONE, "parent": "b"}, {**ONE, "id": "b", "parent": "a"}]}, "messages[0].parent"),
        ({"messages": [{**ONE, "role": "root"}]}, "messages[0].role"),
        ({"messages": [{**ONE, "role": None}]}, "messages[0].role"),
        ({"messages": [{**ONE, "content": ["x"]}]}, "messages[0].content"),
        ({"messages": [{**ONE, "reasoning": 1}]}, "messages[0].reasoning"),
        ({"messages": [{**ONE, "stats": "fast"}]}, "messages[0].stats"),
        ({"messages": [{**ONE, "stats": {"a": "x" * 20_000}}]}, "messages[0].stats"),
        ({"messages": [{**ONE, "attachments": ["x"]}]}, "messages[0].attachments"),
        ({"messages": [{**ONE, "attachments": [{}] * 101}]}, "messages[0].attachments"),
        ({"messages": [{**ONE, "is_partial": "no"}]}, "messages[0].is_partial"),
    ],
)
def test_what_is_wrong_is_named(value: Any, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        documents.read_chat(value, "c", now=0)
    assert caught.value.param == param
    assert "\n" not in str(caught.value)


def test_a_chat_has_an_end() -> None:
    half = "x" * (MAX_CHAT_BYTES // 2)
    message = {"id": "a", "role": "user", "content": half}
    chat = documents.read_chat({"messages": [message]}, "c", now=0)
    assert documents.num_bytes(chat.messages[0]) == len(half) + len("{}") + len("[]")
    with pytest.raises(ChatTooLarge, match="8 MB"):
        documents.read_chat({"messages": [message, {**message, "id": "b", "attachments": [{"text": "y"}]}]}, "c", now=0)
    with pytest.raises(ChatTooLarge):
        documents.read_message({"role": "user", "content": "é" * (MAX_CHAT_BYTES // 2)}, "a", now=0)


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ({}, "format"),
        ({"format": "other", "version": 1, "chats": []}, "format"),
        ({"format": "holdall.chats", "version": 2, "chats": []}, "version"),
        ({"format": "holdall.chats", "chats": []}, "version"),
        ({"format": "holdall.chats", "version": 1, "chats": [], "error": "disk"}, "error"),
        ({"format": "holdall.chats", "version": 1, "chats": "all"}, "chats"),
        ({"format": "holdall.chats", "version": 1, "chats": [{}]}, "chats[0].id"),
        (
            {"format": "holdall.chats", "version": 1, "chats": [{"id": "a", "messages": [ONE, {**ONE, "id": "'"}]}]},
            "chats[0].messages[1].id",
        ),
    ],
)
def test_a_document_that_is_none_is_refused(document: Any, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        documents.read_document(document, now=0)
    assert caught.value.param == param


def test_a_chat_cannot_be_called_like_an_endpoint() -> None:
    assert documents.checked_chat_id("exports", "id") == "exports"
    for name in ("export", "import", "a/b", ""):
        with pytest.raises(RequestError):
            documents.checked_chat_id(name, "id")


def test_changes_are_only_what_is_said() -> None:
    assert documents.read_changes({"title": "new", "other": 1}) == {"title": "new"}
    assert documents.read_changes({"leaf": None, "is_pinned": True}) == {"leaf": None, "is_pinned": True}
    with pytest.raises(RequestError, match="nothing to change"):
        documents.read_changes({"created": 5})
    assert documents.read_message_changes({"role": "user", "title": "t", "is_pinned": True}) == {"title": "t"}
