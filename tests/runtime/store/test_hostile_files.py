"""Files of chats that somebody has made or damaged: each is read, or refused in words and left as it is. None hangs."""

import asyncio
import os
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.errors import HistoryError, UnreadableChat
from runtime.server.page.history import History
from runtime.store import database
from runtime.store.store import ChatStore
from tests.fakes import ScriptedEngine
from tests.runtime.store.chats import chat, message
from tests.serving import TIMEOUT_SECONDS, make_app

OURS = {"x-holdall": "page"}
NUM_MUTANTS = int(os.environ.get("HOLDALL_CHATS_MUTANTS", "100"))
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT "


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """In memory where that can be: a thousand commits wait for no disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder) / "tiny.chats"


def fill(path: Path, num_chats: int = 4) -> None:
    store = ChatStore(path)
    for number in range(num_chats):
        text = f"text {number} été " * 40
        answer = message("m2", "m1", role="assistant", content=text * 8, stats={"n": 1}, attachments=({"name": "a"},))
        store.put_chat(chat(f"c{number}", message("m1", content=text), answer))
    store.close()


Spoil = Callable[[sqlite3.Connection], object]


def altered(spoil: Spoil) -> Spoil:
    """Return the same with SQLite's own guard of its schema down."""

    def write(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA writable_schema = ON")
        spoil(connection)

    return write


def a_view_for(table: str, columns: str) -> Spoil:
    def write(connection: sqlite3.Connection) -> None:
        connection.execute(f"DROP TABLE {table}")
        connection.execute(f"CREATE VIEW {table} AS {ENDLESS} {columns} FROM n")

    return write


def a_form_with(old: str, new: str) -> Spoil:
    def write(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, ?, ?)", [old, new])
        assert connection.execute("SELECT changes()").fetchone()[0]

    return altered(write)


SCHEMAS: dict[str, Spoil] = {
    "chats that never end": a_view_for("chats", "i AS id, 't' AS title, 'f' AS folded, 0 AS is_pinned, 1 AS created"),
    "messages that never end": a_view_for("messages", "i AS position, 'c0' AS chat, i AS id"),
    "a view beside": lambda file: file.execute(f"CREATE VIEW more AS {ENDLESS} i FROM n"),
    "a trigger": lambda file: file.execute(
        f"CREATE TRIGGER t AFTER INSERT ON messages BEGIN DELETE FROM chats WHERE id IN ({ENDLESS} i FROM n); END"
    ),
    "a table more": lambda file: file.execute("CREATE TABLE more (a)"),
    "an index more": lambda file: file.execute("CREATE INDEX more ON chats (title)"),
    "an index less": lambda file: file.execute("DROP INDEX messages_by_chat"),
    "an index by a computation": lambda file: file.execute("CREATE INDEX more ON chats (hex(title))"),
    "a column more": lambda file: file.execute("ALTER TABLE chats ADD COLUMN more TEXT"),
    "a computed column": lambda file: file.execute(
        "ALTER TABLE chats ADD COLUMN more TEXT AS (hex(zeroblob(100000000)))"
    ),
    "a virtual table": altered(
        lambda file: file.execute(
            "INSERT INTO sqlite_master VALUES ('table', 'x', 'x', 0, 'CREATE VIRTUAL TABLE x USING nothing(\x1b[2J)')"
        )
    ),
    "a default": a_form_with("title TEXT NOT NULL", "title TEXT NOT NULL DEFAULT (hex(zeroblob(9)))"),
    "a check": a_form_with("title TEXT NOT NULL", "title TEXT NOT NULL CHECK (title > '')"),
    "another type": a_form_with("title TEXT", "title BLOB"),
    "no form at all": altered(lambda file: file.execute("UPDATE sqlite_master SET sql = 'nonsense \x1b[2J'")),
    "a table twice": altered(lambda file: file.execute("UPDATE sqlite_master SET rootpage = 2 WHERE type = 'table'")),
    "a table that is its own index": altered(lambda file: file.execute("UPDATE sqlite_master SET rootpage = 1")),
    "a table behind the end": altered(lambda file: file.execute("UPDATE sqlite_master SET rootpage = 99999")),
    "ten thousand tables": altered(
        lambda file: file.executemany(
            "INSERT INTO sqlite_master VALUES ('view', ?, ?, 0, ?)",
            ((f"v{each}", f"v{each}", f"CREATE VIEW v{each} AS SELECT 1") for each in range(10_000)),
        )
    ),
    "a version from the future": lambda file: file.execute("PRAGMA user_version = 99"),
    "a version before the first": lambda file: file.execute("PRAGMA user_version = 0"),
    "a negative version": lambda file: file.execute("PRAGMA user_version = -3"),
    "another program's mark": lambda file: file.execute("PRAGMA application_id = 7"),
}


@pytest.mark.parametrize("spoil", SCHEMAS.values(), ids=SCHEMAS.keys())
def test_a_schema_that_is_not_ours_is_refused_in_words_and_left(path: Path, spoil: Spoil) -> None:
    fill(path)
    connection = sqlite3.connect(path)
    spoil(connection)
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(HistoryError, match=r"(?i)left as it is|newer version") as caught:
        ChatStore(path).close()
    assert str(caught.value).isprintable()
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("size", [512, 1024, 65536])
def test_pages_of_another_size_are_fine(path: Path, size: int) -> None:
    fill(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA page_size = {size}")
    connection.execute("VACUUM")
    connection.close()
    store = ChatStore(path)
    assert store.ids() == ["c0", "c1", "c2", "c3"]
    store.close()


def test_a_file_in_another_mode_of_journal_comes_back_to_ours(path: Path) -> None:
    fill(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    store = ChatStore(path)
    store.put_chat(chat("c9"))
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    store.close()
    assert path.read_bytes()[18:20] == b"\1\1"


def test_nothing_computes_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_SECONDS_TO_COMPUTE", 0.05)
    connection = database.connect(path)

    def compute() -> None:
        with database.transaction(connection, writes=True):
            connection.execute("INSERT INTO chats VALUES ('a', '', '', 0, 1, 2, NULL, '{}')")
            connection.execute(f"{ENDLESS} count(*) FROM n").fetchall()

    with pytest.raises(HistoryError, match="too long"):
        compute()
    with database.transaction(connection, writes=False):
        assert connection.execute("SELECT COUNT(*) FROM chats").fetchone() == (0,)
    connection.close()


# What one cell may hold that this program doesn't write, as SQL; and the columns of both tables.
VALUES = {
    "a number": "7",
    "a fraction": "0.5",
    "an infinite number": "9e999",
    "a large number": "9223372036854775807",
    "a negative number": "-1",
    "bytes": "x'ff00fe'",
    "text that is no UTF-8": "CAST(x'c328ff' AS TEXT)",
    "half a surrogate": "CAST(x'eda080' AS TEXT)",
    "a NUL": "CAST(x'610062' AS TEXT)",
    "JSON with an infinite number": """'{"a":1e999}'""",
    "JSON that is no number": """'{"a":NaN}'""",
    "JSON with half a surrogate": """'{"a":"\\ud800"}'""",
    "JSON of another kind": "'\"text\"'",
    "a list of numbers": "'[1]'",
    "deep JSON": "replace(hex(zeroblob(450)), '00', '[') || replace(hex(zeroblob(450)), '00', ']')",
    "deeper JSON": "replace(hex(zeroblob(900)), '00', '[') || replace(hex(zeroblob(900)), '00', ']')",
    "very deep JSON": "replace(hex(zeroblob(99999)), '00', '[')",
    "a huge text": "hex(zeroblob(300000))",
    "what a terminal obeys": "char(27) || '[2J'",
    "nothing": "''",
}
CELLS = [
    *(("chats", each) for each in ("id", "title", "folded", "is_pinned", "created", "updated", "leaf", "settings")),
    *(("messages", each) for each in ("chat", "id", "parent", "role", "created", "is_partial", "num_bytes", "stats")),
    *(("messages", each) for each in ("folded", "content", "reasoning", "attachments")),
]


def use_it_all(history: History, chat_ids: Sequence[str]) -> dict[str, Any]:
    """Ask for all that the page asks for; each answers, or refuses in words. Returns the export, empty when refused."""
    app = make_app(ScriptedEngine(), history=history)
    new = {"role": "user", "content": "new", "parent": "m1"}
    asked: list[tuple[str, str, Any]] = [
        ("GET", "/chats", None),
        ("GET", "/chats?search=text+ete", None),
        *(("GET", f"/chats/{each}", None) for each in chat_ids),
        ("GET", "/chats/export", None),
        *(("PUT", f"/chats/{each}/messages/new", new) for each in chat_ids),
        *(("DELETE", f"/chats/{each}/messages/m2", None) for each in chat_ids),
        ("PATCH", f"/chats/{chat_ids[1]}", {"title": "new"}),
        ("DELETE", f"/chats/{chat_ids[2]}", None),
    ]

    async def ask_all() -> dict[str, Any]:
        exported: dict[str, Any] = {}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            for method, address, body in asked:
                content = {} if body is None else {"json": body}
                asking = client.request(method, address, headers=OURS, **content)
                answer = await asyncio.wait_for(asking, TIMEOUT_SECONDS)
                assert answer.status_code in (200, 400, 404, 413, 503), (method, address, answer.text[:300])
                value = answer.json()
                if answer.status_code != 200:
                    assert value["error"]["message"].isprintable(), value
                elif address == "/chats/export":
                    exported = value
        return exported

    return asyncio.run(ask_all())


def test_a_cell_that_is_not_ours_spoils_no_more_than_its_chat(path: Path) -> None:
    """Each value in each column, in a chat of its own; those before and after are there."""
    cases = [(table, column, name) for table, column in CELLS for name in VALUES]
    fill(path, len(cases) + 2)
    connection = sqlite3.connect(path)
    for number, (table, column, name) in enumerate(cases, 1):
        where = f"id = 'c{number}'" if table == "chats" else f"chat = 'c{number}' AND id = 'm1'"
        connection.execute(f"UPDATE {table} SET {column} = {VALUES[name]} WHERE {where}")
        assert connection.execute("SELECT changes()").fetchone() == (1,)
    connection.commit()
    connection.close()
    history = History(lambda: ChatStore(path))
    exported = use_it_all(history, [f"c{number}" for number in range(len(cases) + 2)])
    history.close()
    assert {"c0", f"c{len(cases) + 1}"} <= {each["id"] for each in exported["chats"]}
    assert "error" not in exported


def test_parents_that_go_round_are_refused(path: Path) -> None:
    fill(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE messages SET parent = 'm2' WHERE id = 'm1'")
    connection.commit()
    connection.close()
    store = ChatStore(path)
    with pytest.raises(UnreadableChat):
        store.chat("c1")
    store.close()


def test_a_chat_that_is_larger_than_any_is_not_taken_into_memory(path: Path) -> None:
    fill(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE messages SET content = CAST(zeroblob(30000000) AS TEXT) WHERE chat = 'c1'")
    connection.commit()
    connection.close()
    store = ChatStore(path)
    with pytest.raises(UnreadableChat):
        store.chat("c1")
    assert store.chat("c0") is not None
    store.close()


def mutated(good: bytes, chance: random.Random) -> bytes:
    """Return the file with bytes changed, pages swapped, copied or emptied, or its end cut off or repeated."""
    data = bytearray(good)
    page = 4096
    num_pages = len(data) // page
    for _ in range(chance.choice((1, 1, 2, 8, 50))):
        kind = chance.randrange(7)
        here, there = (chance.randrange(num_pages) * page for _ in range(2))
        if kind <= 2:  # most bytes of a page say nothing; its head, and the file's, say much
            at = chance.choice((chance.randrange(len(data)), chance.randrange(100), here + chance.randrange(64)))
            data[at] = chance.choice((0, 1, 0xFF, data[at] ^ (1 << chance.randrange(8)), chance.randrange(256)))
        elif kind == 3:
            data[here : here + page], data[there : there + page] = data[there : there + page], data[here : here + page]
        elif kind == 4:
            data[here : here + page] = data[there : there + page]
        elif kind == 5:
            length = chance.randrange(1, 400)
            data[here : here + length] = chance.randbytes(length)
        else:
            at = chance.randrange(page)
            data[here + at : here + page] = bytes(page - at)
    if chance.random() < 0.15:
        del data[chance.randrange(len(data)) :]
    elif chance.random() < 0.05:
        data += data[-page:]
    return bytes(data)


def test_mutated_files_answer_or_are_refused_in_words(path: Path) -> None:
    """HOLDALL_CHATS_MUTANTS=1000 makes it a longer run."""
    fill(path)
    good = path.read_bytes()
    num_read = 0
    for seed in range(NUM_MUTANTS):
        mutant = mutated(good, random.Random(seed))
        path.write_bytes(mutant)
        history = History(lambda: ChatStore(path))
        try:
            exported = use_it_all(history, ("c0", "c1", "c2", "c3"))
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        finally:
            history.close()
        if exported:
            num_read += 1
        elif mutant:
            assert path.read_bytes() == mutant, f"seed {seed}: refused, and changed all the same"
        for each in path.parent.iterdir():
            each.unlink()
    assert 0 < num_read < NUM_MUTANTS
