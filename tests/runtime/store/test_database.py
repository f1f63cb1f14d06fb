"""The file itself: made, opened, brought up to date, or left alone."""

import contextlib
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import HistoryError
from runtime.store import database
from runtime.store.database import APPLICATION_ID, MIGRATIONS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "holdall" / "tiny.chats"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_what_is_made_is_private(path: Path) -> None:
    database.connect(path).close()
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def test_the_file_is_ours_and_has_the_newest_version(path: Path) -> None:
    connection = database.connect(path)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    connection.close()
    before = path.read_bytes()
    database.connect(path).close()
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_file_of_chats(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()
    database.connect(path).close()
    assert path.stat().st_size > 0


LATER = (*MIGRATIONS, ("ALTER TABLE chats ADD COLUMN colour TEXT", "UPDATE chats SET colour = 'red'"))


def test_an_older_file_is_brought_up_to_date_with_what_it_holds(path: Path) -> None:
    connection = database.connect(path)
    connection.execute("INSERT INTO chats VALUES ('a', 'A', 'a', 0, 1, 2, NULL, '{}')")
    connection.close()
    connection = database.connect(path, LATER)
    assert connection.execute("SELECT id, colour FROM chats").fetchall() == [("a", "red")]
    assert connection.execute("PRAGMA user_version").fetchone() == (len(LATER),)
    connection.close()
    with pytest.raises(HistoryError, match="newer version"):
        database.connect(path)


def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    database.connect(path).close()
    before = path.read_bytes()
    with pytest.raises(HistoryError):
        database.connect(path, (*MIGRATIONS, ("ALTER TABLE chats ADD COLUMN colour TEXT", "DROP TABLE nothing")))
    database.connect(path).close()
    assert path.read_bytes() == before


def test_a_file_that_another_program_makes_while_it_is_looked_at_is_ours(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_SECONDS_TO_WAIT", 0.01)
    others: list[str] = []

    class Interrupted(sqlite3.Connection):
        """Half-way through the look at the header the other program comes."""

        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql == "PRAGMA user_version" and not others:
                others.append(sql)
                with contextlib.suppress(HistoryError):  # it is held off until we are done
                    database.connect(path).close()
            return super().execute(sql, *parameters)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, **named, factory=Interrupted))
    database.connect(path).close()
    assert others


def of_another_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.commit()
    connection.close()


def damaged(path: Path) -> None:
    connection = database.connect(path)
    rows = [(f"c{number}", "x" * 500) for number in range(200)]
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO chats VALUES (?, ?, '', 0, 1, 2, NULL, '{}')", rows)
    connection.execute("COMMIT")
    connection.close()
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 8 * 4096] = os.urandom(5 * 4096)
    path.write_bytes(content)


def cut(path: Path) -> None:
    damaged(path)
    path.write_bytes(path.read_bytes()[:10_000])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (of_another_program, "belongs to another program"),
        (lambda path: path.write_bytes(b"Dear diary, " * 1000), "damaged, or isn't one"),
        (damaged, "damaged"),
        (cut, "damaged"),
    ],
    ids=["another program's", "no database", "damaged", "cut"],
)
def test_a_file_that_cannot_be_used_is_left_as_it_is(path: Path, spoil: object, said: str) -> None:
    path.parent.mkdir(parents=True)
    spoil(path)  # type: ignore[operator]
    before = path.read_bytes()
    with pytest.raises(HistoryError, match=said) as caught:
        database.connect(path)
    assert path.read_bytes() == before
    assert str(path) not in str(caught.value)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HistoryError, match="can't be written to"):
        database.connect(tmp_path / "file" / "tiny.chats")
    (tmp_path / "folder.chats").mkdir()
    with pytest.raises(HistoryError, match="name is taken by something else"):
        database.connect(tmp_path / "folder.chats")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_is_read_only_is_told(path: Path) -> None:
    database.connect(path).close()
    path.chmod(0o400)
    with pytest.raises(HistoryError, match="can't be written to"):
        database.connect(path)


def test_a_full_disk_undoes_the_whole_transaction(path: Path) -> None:
    connection = database.connect(path)
    connection.execute("PRAGMA max_page_count = 20")
    insert = "INSERT INTO chats VALUES (?, ?, '', 0, 1, 2, NULL, '{}')"

    def write_too_much() -> None:
        with database.transaction(connection, writes=True):
            connection.execute(insert, ("small", "x"))
            connection.execute(insert, ("large", "x" * 200_000))

    with pytest.raises(HistoryError, match="full"):
        write_too_much()
    assert connection.execute("SELECT COUNT(*) FROM chats").fetchone() == (0,)
    with database.transaction(connection, writes=True):
        connection.execute(insert, ("small", "x"))
    assert connection.execute("SELECT COUNT(*) FROM chats").fetchone() == (1,)
    connection.close()


def test_an_error_of_ours_undoes_the_transaction_and_stays_what_it_is(path: Path) -> None:
    connection = database.connect(path)

    def fail_half_way() -> None:
        with database.transaction(connection, writes=True):
            connection.execute("INSERT INTO chats VALUES ('a', '', '', 0, 1, 2, NULL, '{}')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert connection.execute("SELECT COUNT(*) FROM chats").fetchone() == (0,)
    connection.close()


def test_a_file_that_another_program_holds_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_SECONDS_TO_WAIT", 0.01)
    holder, other = database.connect(path), database.connect(path)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(HistoryError, match="another program holds"), database.transaction(other, writes=True):
        pass
    holder.close()
    other.close()
