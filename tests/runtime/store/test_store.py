import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from runtime.errors import ChatTooLarge, HistoryError, RequestError
from runtime.store import store as store_module
from runtime.store.chat import MAX_CHAT_BYTES, Chat
from runtime.store.store import ChatStore
from tests.runtime.store.chats import chat, message
from tests.runtime.store.test_documents import chats

ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tiny.chats"


@pytest.fixture
def store(path: Path) -> Iterator[ChatStore]:
    opened = ChatStore(path)
    yield opened
    opened.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time as the store reads it."""
    time = [1000]
    monkeypatch.setattr(store_module, "now", lambda: time[0])
    return time


@settings(max_examples=50)
@given(kept=chats())
def test_any_chat_is_read_as_it_was_put(kept: Chat, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("store") / "tiny.chats"
    for _ in range(2):  # replacing a chat by itself changes nothing
        opened = ChatStore(path)
        opened.put_chat(kept)
        opened.close()
    opened = ChatStore(path)
    assert opened.chat(kept.id) == kept
    opened.close()


def test_a_chat_that_is_not_there_is_none(store: ChatStore) -> None:
    assert store.chat("c1") is None
    assert store.change_chat("c1", {"title": "x"}) is False
    assert store.delete_chat("c1") is False
    assert store.delete_message("c1", "m1") is False


def test_a_chat_is_replaced_as_a_whole(store: ChatStore) -> None:
    store.put_chat(chat("c1"))
    other = chat("c1", message("m9"), title="other")
    store.put_chat(other)
    assert store.chat("c1") == other
    assert [each.num_messages for each in store.summaries()] == [1]


def test_pinned_chats_come_first_and_then_the_newest(store: ChatStore) -> None:
    for number, is_pinned in enumerate([False, True, False, True]):
        store.put_chat(chat(f"c{number}", updated=number, is_pinned=is_pinned))
    assert [each.id for each in store.summaries()] == ["c3", "c1", "c2", "c0"]
    [first, *_] = store.summaries()
    assert (first.title, first.created, first.updated, first.num_messages) == ("title of c3", 10, 3, 2)


def test_a_deleted_chat_takes_its_messages_along(store: ChatStore) -> None:
    store.put_chat(chat("c1"))
    store.put_chat(chat("c2"))
    assert store.delete_chat("c1") is True
    assert store.ids() == ["c2"]
    store.put_message("c1", message("m1"), {})
    assert [each.id for each in (store.chat("c1") or chat()).messages] == ["m1"]


def test_changes_leave_the_rest_and_the_place_in_the_list(store: ChatStore) -> None:
    before = chat("c1")
    store.put_chat(before)
    assert store.change_chat("c1", {"title": "new", "is_pinned": True, "leaf": "m1", "settings": {"top_k": 5}})
    after = store.chat("c1")
    assert after == replace(before, title="new", is_pinned=True, leaf="m1", settings={"top_k": 5})
    assert store.change_chat("c1", {"leaf": None})
    assert (store.chat("c1") or before).leaf is None
    assert [each.id for each in store.summaries("new")] == ["c1"]
    with pytest.raises(RequestError, match="leaf"):
        store.change_chat("c1", {"leaf": "m9", "title": "not this"})
    assert (store.chat("c1") or before).title == "new"


def test_a_first_message_makes_its_chat(store: ChatStore, clock: list[int]) -> None:
    store.put_message("c1", message("m1"), {"title": "Hello"})
    assert store.chat("c1") == Chat(
        id="c1", title="Hello", created=1000, updated=1000, leaf="m1", messages=(message("m1"),)
    )


def test_a_message_that_grows_stays_where_it_is(store: ChatStore, clock: list[int]) -> None:
    store.put_chat(chat("c1", message("m1"), message("m2", "m1"), message("m3", "m1"), leaf="m3"))
    clock[0] = 2000
    grown = message("m2", "m1", content="more text", reasoning="why", stats={"n": 1}, attachments=({"name": "a"},))
    store.put_message("c1", grown, {})
    found = store.chat("c1")
    assert found is not None
    assert found.messages == (message("m1"), grown, message("m3", "m1"))
    assert (found.leaf, found.updated) == ("m3", 2000)
    # Neither the time it was made nor a parent that isn't said change.
    store.put_message("c1", replace(grown, parent=None, created=9), {})
    assert store.chat("c1") == found


def test_a_new_message_that_follows_the_leaf_becomes_it(store: ChatStore) -> None:
    store.put_message("c1", message("m1"), {})
    store.put_message("c1", message("m2", "m1"), {})
    assert (store.chat("c1") or chat()).leaf == "m2"
    store.put_message("c1", message("m3", "m1"), {})
    assert (store.chat("c1") or chat()).leaf == "m2"
    store.put_message("c1", message("m4", "m1"), {"leaf": "m3"})
    assert (store.chat("c1") or chat()).leaf == "m3"
    store.put_message("c1", message("m4", "m1"), {"leaf": "m1"})
    store.put_message("c1", message("m2", "m1", content="grown"), {})
    assert (store.chat("c1") or chat()).leaf == "m1"


def test_a_message_without_a_place_is_refused_and_makes_no_chat(store: ChatStore) -> None:
    with pytest.raises(RequestError, match="parent"):
        store.put_message("c1", message("m2", "m1"), {})
    assert store.ids() == []
    store.put_chat(chat("c1", message("m1"), message("m2", "m1")))
    for wrong, changes in ((message("m1", "m2"), {}), (message("m3", "m3"), {}), (message("m3"), {"leaf": "m9"})):
        with pytest.raises(RequestError):
            store.put_message("c1", wrong, changes)  # type: ignore[arg-type]
    assert store.chat("c1") == chat("c1", message("m1"), message("m2", "m1"))


def test_a_chat_cannot_grow_beyond_its_limit(store: ChatStore) -> None:
    half = "x" * (MAX_CHAT_BYTES // 2)
    store.put_message("c1", message("m1", content=half), {})
    with pytest.raises(ChatTooLarge):
        store.put_message("c1", message("m2", "m1", content=half), {})
    store.put_message("c1", message("m1", content=half + half[:-10]), {})  # in place of what was there
    with pytest.raises(ChatTooLarge):
        store.put_message("c1", message("m1", content=half + half), {})


def test_a_deleted_message_takes_what_hangs_below_it(store: ChatStore) -> None:
    tree = [("a", None), ("b", "a"), ("c", "b"), ("d", "a"), ("e", "c"), ("f", "d")]
    store.put_chat(chat("c1", *(message(*each) for each in tree), leaf="e"))
    store.put_chat(chat("c2", *(message(*each) for each in tree)))
    assert store.delete_message("c1", "b") is True
    left = store.chat("c1")
    assert left is not None
    assert [each.id for each in left.messages] == ["a", "d", "f"]
    assert left.leaf == "a"
    assert store.delete_message("c1", "f") is True
    assert (store.chat("c1") or left).leaf == "a"
    assert store.delete_message("c1", "a") is True
    assert (store.chat("c1") or left).leaf is None
    assert len((store.chat("c2") or left).messages) == len(tree)


def test_a_search_finds_chats_that_have_every_word_somewhere(store: ChatStore) -> None:
    store.put_chat(chat("c1", message("m1", content="Où passer l'Été ?"), message("m2", "m1", content="En Bretagne.")))
    store.put_chat(chat("c2", message("m1", content="nothing"), title="Ete 2024"))
    store.put_chat(chat("c3", message("m1", content="100% sure_"), updated=30))
    found = store.summaries("ete")
    assert [(each.id, each.snippet) for each in found] == [("c1", "Où passer l'Été ?"), ("c2", None)]
    assert [each.id for each in store.summaries("BRETAGNE été")] == ["c1"]
    assert [each.id for each in store.summaries("2024 nothing")] == ["c2"]
    assert store.summaries("bretagne 2024") == []
    assert [each.id for each in store.summaries("%")] == ["c3"]
    assert [each.id for each in store.summaries("_")] == ["c3"]
    assert len(store.summaries("  ")) == 3
    assert store.summaries()[0].snippet is None


def test_a_search_forgets_what_is_gone(store: ChatStore) -> None:
    store.put_chat(chat("c1", message("m1", content="needle")))
    store.put_message("c1", message("m1", content="hay"), {})
    assert store.summaries("needle") == []
    store.put_message("c1", message("m2", "m1", content="needle"), {})
    store.delete_message("c1", "m2")
    assert store.summaries("needle") == []


def test_imported_chats_get_new_ids_where_theirs_are_taken(store: ChatStore) -> None:
    store.put_chat(chat("c1"))
    assert store.import_chats([chat("c1", title="copy"), chat("c2"), chat("c2"), chat("export")]) == 4
    assert store.chat("c1") == chat("c1")
    assert store.chat("export") is None
    assert sorted(each.title for each in store.summaries()) == [
        "copy",
        "title of c1",
        "title of c2",
        "title of c2",
        "title of export",
    ]
    copies = [store.chat(each.id) for each in store.summaries()]
    assert all(each is not None and len(each.messages) == 2 for each in copies)


def test_two_programs_share_the_file(store: ChatStore, path: Path) -> None:
    other = ChatStore(path)
    store.put_message("c1", message("m1"), {})
    other.put_message("c1", message("m2", "m1"), {})
    assert store.chat("c1") == other.chat("c1")
    assert len((store.chat("c1") or chat()).messages) == 2
    other.close()


def test_a_file_with_somebody_elses_json_in_it_is_told(store: ChatStore, path: Path) -> None:
    store.put_chat(chat("c1"))
    store._connection.execute("UPDATE messages SET stats = 'fast'")
    with pytest.raises(HistoryError, match="isn't ours"):
        store.chat("c1")
    assert len(store.summaries()) == 1


WRITER = """
import sys
from pathlib import Path
from runtime.store.store import ChatStore
from tests.runtime.store.chats import message
store = ChatStore(Path(sys.argv[1]))
store.put_message("c1", message("m0"), {})
for number in range(1, 1_000_000):
    text = "sentence. " * (number * 50)
    store.put_message("c1", message(f"m{number % 7 + 1}", "m0", content=text[:100_000], stats={"n": number}), {})
    print(number, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize("num_writes", [1, 20, 55])
def test_a_program_that_is_killed_loses_at_most_what_it_was_writing(path: Path, num_writes: int) -> None:
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(num_writes):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)  # it goes on writing until the signal is there
        rest = process.stdout.read().split()
    last = int(rest[-1]) if rest else last
    survived = ChatStore(path)
    found = survived.chat("c1")
    survived.close()
    assert found is not None
    # What was said to be written is there; the write that was under way may be, too.
    assert max(each.stats.get("n", 0) for each in found.messages) in (last, last + 1)
    assert all(each.content == ("sentence. " * 100_000)[: len(each.content)] for each in found.messages[1:])
