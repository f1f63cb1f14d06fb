import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from runtime.errors import HistoryError
from runtime.server.page import chats as endpoints
from runtime.server.page.history import History
from runtime.store.chat import MAX_CHAT_BYTES, Chat
from runtime.store.store import ChatStore
from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app

OURS = {"x-holdall": "page"}
Call = Callable[..., httpx.Response]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(lambda: ChatStore(tmp_path / "tiny.chats"))
    yield opened
    opened.close()


@pytest.fixture
def app(history: History) -> Starlette:
    return make_app(ScriptedEngine(), history=history)


@pytest.fixture
def call(app: Starlette) -> Call:
    def send(method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        content = {} if body is None else {"json": body}
        return ask(app, method, path, **{"headers": OURS, **content, **options})

    return send


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert "\n" not in error["message"]
    return error


QUESTION = {"role": "user", "content": "Why?"}
ANSWER = {"parent": "m1", "role": "assistant", "content": "Becau", "is_partial": True, "stats": {"n": 1}}


def test_a_conversation_is_kept_as_it_grows(call: Call) -> None:
    assert call("GET", "/chats").json() == {"chats": []}
    assert call("PUT", "/chats/c1/messages/m1", {**QUESTION, "title": "Reasons"}).status_code == 200
    assert call("PUT", "/chats/c1/messages/m2", ANSWER).status_code == 200
    whole = {**ANSWER, "content": "Because.", "is_partial": False, "leaf": "m2"}
    assert call("PUT", "/chats/c1/messages/m2", whole).status_code == 200
    kept = call("GET", "/chats/c1").json()
    assert {name: kept[name] for name in ("id", "title", "leaf", "is_pinned", "settings")} == {
        "id": "c1",
        "title": "Reasons",
        "leaf": "m2",
        "is_pinned": False,
        "settings": {},
    }
    assert [set(each) for each in kept["messages"]] == 2 * [
        {"id", "parent", "role", "content", "reasoning", "created", "stats", "attachments", "is_partial"}
    ]
    assert [each["content"] for each in kept["messages"]] == ["Why?", "Because."]
    [line] = call("GET", "/chats").json()["chats"]
    assert line == {name: kept[name] for name in ("id", "title", "is_pinned", "created", "updated")} | {
        "num_messages": 2
    }


def test_a_whole_chat_is_put_changed_and_deleted(call: Call) -> None:
    chat = {
        "title": "One",
        "messages": [{"id": "m1", **QUESTION}],
        "settings": {"top_k": 3},
        "created": 5,
        "updated": 6,
    }
    assert call("PUT", "/chats/c1", chat).json() == {"id": "c1"}
    assert call("GET", "/chats/c1").json()["settings"] == {"top_k": 3}
    assert call("PATCH", "/chats/c1", {"title": "Two", "is_pinned": True}).status_code == 200
    [line] = call("GET", "/chats").json()["chats"]
    assert (line["title"], line["is_pinned"], line["created"], line["updated"]) == ("Two", True, 5, 6)
    assert call("DELETE", "/chats/c1/messages/m1").json() == {"deleted": "m1"}
    assert call("DELETE", "/chats/c1").json() == {"deleted": "c1"}
    for method, path in [("GET", "/chats/c1"), ("DELETE", "/chats/c1"), ("DELETE", "/chats/c1/messages/m1")]:
        assert call(method, path).status_code == 404
    assert call("PATCH", "/chats/c1", {"title": "x"}).status_code == 404


def test_a_search_has_snippets(call: Call) -> None:
    call("PUT", "/chats/c1/messages/m1", {"role": "user", "content": "L'été en Bretagne"})
    call("PUT", "/chats/c2/messages/m1", QUESTION)
    [found] = call("GET", "/chats", params={"search": "ETE"}).json()["chats"]
    assert (found["id"], found["snippet"]) == ("c1", "L'été en Bretagne")
    assert len(call("GET", "/chats", params={"search": " "}).json()["chats"]) == 2
    assert error_of(call("GET", "/chats", params={"search": "x" * 301}))["param"] == "search"


def test_an_export_can_be_imported_again(call: Call) -> None:
    for number in range(3):
        call("PUT", f"/chats/c{number}", {"title": "ü " * number, "messages": [{"id": "m1", **QUESTION}]})
    exported = call("GET", "/chats/export")
    assert exported.headers["content-type"] == "application/json"
    document = exported.json()
    assert (document["format"], document["version"], len(document["chats"])) == ("holdall.chats", 1, 3)
    assert document["chats"][1] == call("GET", "/chats/c1").json()
    for number in range(3):
        call("DELETE", f"/chats/c{number}")
    assert call("POST", "/chats/import", content=exported.content).json() == {"imported": 3}
    assert call("GET", "/chats/export").json() == document
    assert call("POST", "/chats/import", document).json() == {"imported": 3}
    assert len(call("GET", "/chats").json()["chats"]) == 6


def test_an_export_of_nothing_is_an_empty_list(call: Call) -> None:
    assert call("GET", "/chats/export").json() == {"format": "holdall.chats", "version": 1, "chats": []}


def test_an_export_leaves_out_what_cannot_be_read_and_has_all_the_rest(call: Call, history: History) -> None:
    for number in range(3):
        call("PUT", f"/chats/c{number}", {"title": str(number)})

    def spoil(store: ChatStore) -> None:
        store._connection.execute("UPDATE chats SET settings = 'x' WHERE id = 'c1'")

    asyncio.run(history.run(spoil))
    spoiled = call("GET", "/chats/export").json()
    assert [each["id"] for each in spoiled["chats"]] == ["c0", "c2"]
    assert spoiled["left_out"] == ["c1"]
    assert len(call("GET", "/chats").json()["chats"]) == 3
    assert "isn't ours" in error_of(call("GET", "/chats/c1"))["message"]
    assert call("POST", "/chats/import", spoiled).json() == {"imported": 2}


def test_an_export_that_fails_half_way_says_so_and_is_not_imported(call: Call, history: History) -> None:
    for number in range(3):
        call("PUT", f"/chats/c{number}", {"title": str(number)})

    def close_after_one(store: ChatStore) -> None:
        def read_one(chat_id: str) -> Chat | None:
            store.chat = fail  # type: ignore[method-assign]
            return read(chat_id)

        def fail(_chat_id: str) -> Chat | None:
            raise HistoryError("the disk is gone")

        read, store.chat = store.chat, read_one  # type: ignore[method-assign]

    asyncio.run(history.run(close_after_one))
    broken = call("GET", "/chats/export").json()
    assert [each["id"] for each in broken["chats"]] == ["c0"]
    assert broken["error"] == "the disk is gone"
    assert error_of(call("POST", "/chats/import", broken))["param"] == "error"


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("PUT", "/chats/a.b", {}, "id"),
        ("PUT", "/chats/" + "x" * 65, {}, "id"),
        ("PUT", "/chats/export", {}, "id"),
        ("GET", "/chats/import", None, "id"),
        ("PUT", "/chats/c1", [], None),
        ("PUT", "/chats/c1", {"messages": [{"id": "m1"}]}, "messages[0].role"),
        ("PATCH", "/chats/c1", {}, None),
        ("PATCH", "/chats/c1", {"leaf": "m9"}, "leaf"),
        ("PUT", "/chats/c1/messages/m 1", QUESTION, "message id"),
        ("PUT", "/chats/c1/messages/m2", {"role": "user", "parent": "m9"}, "parent"),
        ("PUT", "/chats/c1/messages/m2", {"content": "x"}, "role"),
        ("POST", "/chats/import", {"format": "x"}, "format"),
    ],
)
def test_what_is_wrong_is_one_line_and_changes_nothing(
    call: Call, method: str, path: str, body: Any, param: str | None
) -> None:
    call("PUT", "/chats/c1/messages/m1", QUESTION)
    before = call("GET", "/chats/export").json()
    response = call(method, path, body)
    assert response.status_code == 400
    assert error_of(response)["param"] == param
    assert call("GET", "/chats/export").json() == before


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b'{"title": "\\ud800"}', b'{"created": 1e999}', b"[" * 100_000]
)
def test_a_body_that_is_no_json_is_one_line(call: Call, content: bytes) -> None:
    for method, path in [("PUT", "/chats/c1"), ("PUT", "/chats/c1/messages/m1"), ("POST", "/chats/import")]:
        response = call(method, path, content=content)
        assert response.status_code == 400
        error_of(response)


def test_what_is_too_large_is_413(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    message = {"role": "user", "content": "x" * MAX_CHAT_BYTES}
    assert call("PUT", "/chats/c1/messages/m1", message).status_code == 413
    assert "8 MB" in error_of(call("PUT", "/chats/c1", {"messages": [{"id": "m1", **message}]}))["message"]
    monkeypatch.setattr(endpoints, "MAX_IMPORT_BYTES", 1000)
    assert call("POST", "/chats/import", {"format": "x" * 1000}).status_code == 413
    assert call("GET", "/chats").json() == {"chats": []}


def test_an_import_is_all_or_nothing(call: Call) -> None:
    good, bad = {"id": "a", "messages": [{"id": "m", **QUESTION}]}, {"id": "b", "messages": [{"id": "m", "role": "x"}]}
    document = {"format": "holdall.chats", "version": 1, "chats": [good, bad]}
    assert error_of(call("POST", "/chats/import", document))["param"] == "chats[1].messages[0].role"
    assert call("GET", "/chats").json() == {"chats": []}


WRITING = [
    ("PUT", "/chats/c1"),
    ("PATCH", "/chats/c1"),
    ("DELETE", "/chats/c1"),
    ("PUT", "/chats/c1/messages/m1"),
    ("DELETE", "/chats/c1/messages/m1"),
    ("POST", "/chats/import"),
]


@pytest.mark.parametrize(("method", "path"), WRITING)
def test_only_our_own_page_may_write(call: Call, method: str, path: str) -> None:
    call("PUT", "/chats/c1/messages/m1", QUESTION)
    before = call("GET", "/chats/export").json()
    for headers in ({}, {"x-holdall": "other"}, {**OURS, "origin": "https://evil.example"}, {**OURS, "origin": "null"}):
        response = call(method, path, {"title": "evil"}, headers=headers)
        assert response.status_code == 403
        error_of(response)
    assert call("GET", "/chats/export").json() == before
    assert call(
        method, path, {**QUESTION, "title": "x"}, headers={**OURS, "origin": "http://localhost"}
    ).status_code in (
        200,
        400,  # an import that is none
    )


@pytest.mark.parametrize("path", ["/chats", "/chats/c1", "/chats/export"])
def test_no_other_sites_page_may_read(history: History, call: Call, path: str) -> None:
    from runtime.server.door.security import Access

    call("PUT", "/chats/c1/messages/m1", QUESTION)
    app = make_app(ScriptedEngine(), history=history, access=Access(origins=("*",)))
    assert ask(app, "GET", path, headers={"origin": "https://guest.example"}).status_code == 403
    response = call("GET", path)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["cross-origin-resource-policy"] == "same-origin"
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/chats"), ("GET", "/chats/c1"), ("GET", "/chats/export"), *WRITING]
)
def test_without_history_there_is_nothing(method: str, path: str) -> None:
    response = ask(make_app(ScriptedEngine(), history=None), method, path, headers=OURS)
    assert response.status_code == 404
    assert "--no-history" in error_of(response)["message"]


def test_a_store_that_cannot_be_used_is_503_in_words() -> None:
    def fail() -> ChatStore:
        raise HistoryError("chats can't be kept: the disk is full")

    history = History(fail)
    app = make_app(ScriptedEngine(), history=history)
    for method, path in (("GET", "/chats"), ("GET", "/chats/export"), ("DELETE", "/chats/c1")):
        response = ask(app, method, path, headers=OURS)
        assert response.status_code == 503
        assert error_of(response)["message"] == "chats can't be kept: the disk is full"
    history.close()


HOSTILE = [
    "<script>alert(1)</script>",
    "'); DROP TABLE chats; --",
    '"><img src=x onerror=alert(1)>',
    "\u0000\u0001\u202e\ufeff",
    "😀" * 50,
    "%s%n{0}${1}",
]


def test_any_text_goes_out_as_it_came_in(call: Call) -> None:
    for number, text in enumerate(HOSTILE):
        body = {"role": "user", "content": text, "reasoning": text, "title": text, "stats": {text: text}}
        assert call("PUT", f"/chats/c{number}/messages/m1", {**body, "attachments": [{text: text}]}).status_code == 200
        kept = call("GET", f"/chats/c{number}").json()
        [message] = kept["messages"]
        assert (kept["title"], message["content"], message["reasoning"]) == (text, text, text)
        assert (message["stats"], message["attachments"]) == ({text: text}, [{text: text}])
        found = call("GET", "/chats", params={"search": text.split()[0]}).json()["chats"]
        assert f"c{number}" in [each["id"] for each in found]
    assert json.loads(call("GET", "/chats/export").content)["chats"][0]["title"] == HOSTILE[0]
