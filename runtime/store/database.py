"""The file: a SQLite database, opened, checked and brought to this version, or left alone.

A commit is in the file when it returns (SQLite's rollback journal, synchronous=FULL): a program that is killed, or a
computer that loses power, loses the message that was being written and nothing else. Not WAL: that would leave the
newest messages in a second file, which a person who copies a chat file would forget, and needs shared memory, which
network folders lack. A commit a second is far from where it would be faster.

The version is SQLite's `user_version`: the number of MIGRATIONS that were applied. A file of a later version, one that
isn't ours and one that is damaged are not touched.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import HistoryError

APPLICATION_ID = 0x686F6C64  # "hold", in SQLite's header

# One entry for each version, never changed once it has shipped. `folded` is the text as a search sees it
# (search.py); it comes before `content`, so that a search doesn't read the pages of both.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE chats (
            id TEXT NOT NULL PRIMARY KEY,
            title TEXT NOT NULL,
            folded TEXT NOT NULL,
            is_pinned INTEGER NOT NULL,
            created INTEGER NOT NULL,
            updated INTEGER NOT NULL,
            leaf TEXT,
            settings TEXT NOT NULL
        )""",
        """CREATE TABLE messages (
            position INTEGER PRIMARY KEY,
            chat TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
            id TEXT NOT NULL,
            parent TEXT,
            role TEXT NOT NULL,
            created INTEGER NOT NULL,
            is_partial INTEGER NOT NULL,
            num_bytes INTEGER NOT NULL,
            stats TEXT NOT NULL,
            folded TEXT NOT NULL,
            content TEXT NOT NULL,
            reasoning TEXT NOT NULL,
            attachments TEXT NOT NULL
        )""",
        "CREATE UNIQUE INDEX messages_by_chat ON messages (chat, id)",
    ),
)

_SECONDS_TO_WAIT = 5.0  # for another process of the same bundle; a commit takes milliseconds


def connect(path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> sqlite3.Connection:
    """Open the file, made with its folder where there is none, readable by this user alone.

    The connection may be used by any one thread at a time. Raises HistoryError.
    """
    _make(path)
    with naming_troubles():
        connection = sqlite3.connect(path, timeout=_SECONDS_TO_WAIT, isolation_level=None, check_same_thread=False)
    try:
        with naming_troubles():
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA temp_store = MEMORY")  # no file but this one and its journal
            connection.execute("PRAGMA trusted_schema = OFF")  # a file may come from anywhere
            _migrate(connection, migrations)
            [verdict] = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise _trouble("their file is damaged; it is left as it is")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, *, writes: bool) -> Iterator[None]:
    """All of the block, or nothing of it. Raises HistoryError for what goes wrong in the file."""
    with naming_troubles():
        # A writer asks at once: two readers that both want to write would wait for each other.
        connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite has ended it by itself when the disk is full
                connection.execute("ROLLBACK")
            raise


@contextmanager
def naming_troubles() -> Iterator[None]:
    """Turn SQLite's errors into words; the caller says what can't be done."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise _trouble(_WORDS.get(_primary_code(error), str(error))) from error
    except sqlite3.DatabaseError as error:
        raise _trouble("their file is damaged, or isn't one; it is left as it is") from error


# SQLite's primary result codes, by their numbers: Python has their names only from 3.11 on.
_WORDS = {
    5: "another program holds their file; close it",
    8: "their file can't be written to",
    10: "the disk doesn't answer as it should",
    13: "the disk is full",
    14: "their file can't be opened",
}


def _trouble(reason: str) -> HistoryError:
    return HistoryError(f"chats can't be kept: {reason}")


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _make(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise _trouble("their file's name is taken by something else")
        # SQLite gives its journal the rights of the file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise _trouble(f"their file can't be written to ({error.strerror or error})") from error


def _migrate(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]]) -> None:
    with transaction(connection, writes=False):
        if _version(connection, len(migrations)) == len(migrations):
            return
    with transaction(connection, writes=True):
        # Asked again: another process may have been here meanwhile.
        for statements in migrations[_version(connection, len(migrations)) :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")


def _version(connection: sqlite3.Connection, newest: int) -> int:
    """Return how many migrations a file has seen; asked within a transaction, so that the answers fit each other.

    Raises HistoryError when the file isn't ours or of a later program.
    """
    [application_id] = connection.execute("PRAGMA application_id").fetchone()
    [version] = connection.execute("PRAGMA user_version").fetchone()
    [num_tables] = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    if num_tables and application_id != APPLICATION_ID:
        raise _trouble("their file belongs to another program; it is left as it is")
    if version > newest:
        raise _trouble("their file was made by a newer version of this program; use that one")
    return int(version)
