"""The file: a SQLite database, opened, checked and brought to this version, or left alone.

A commit is in the file when it returns (SQLite's rollback journal, synchronous=FULL): a program that is killed, or a
computer that loses power, loses the message that was being written and nothing else. Not WAL: that would leave the
newest messages in a second file, which a person who copies a chat file would forget, and needs shared memory, which
network folders lack. A commit a second is far from where it would be faster.

The version is SQLite's `user_version`: the number of MIGRATIONS that were applied. A file of a later version, one that
isn't ours and one that is damaged are not touched.

A file may come from anywhere, and a database can hold programs: a view that never ends in place of a table, a trigger,
a column that is computed. So its schema must be, letter for letter, what the MIGRATIONS make; then its pages are
checked, all of them, before anything is read; and no transaction computes for ever.
"""

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import HistoryError
from runtime.store import rights

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
_SECONDS_TO_COMPUTE = 60.0  # of the processor, in one transaction; the check of a gigabyte of chats takes three
_OPERATIONS_BETWEEN_LOOKS = 100_000  # SQLite's, at the clock: about a millisecond
_MAX_VALUE_BYTES = 256 << 20  # of one text; a chat's `folded` is the longest, some letters fold to eighteen


def _nobody(_remark: str) -> None:
    pass


def connect(
    path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS, say: Callable[[str], None] = _nobody
) -> sqlite3.Connection:
    """Open the file, made with its folder where there is none, readable by this user alone.

    `say` is called with what the person should know. The connection may be used by any one thread at a time. Texts that
    are no UTF-8 come with U+FFFD for what isn't. Raises HistoryError.
    """
    rights.take(path)
    with naming_troubles():
        connection = sqlite3.connect(path, timeout=_SECONDS_TO_WAIT, isolation_level=None, check_same_thread=False)
    try:
        with naming_troubles():
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA temp_store = MEMORY")  # no file but this one and its journal
            connection.execute("PRAGMA trusted_schema = OFF")  # a file may come from anywhere
            connection.execute("PRAGMA cell_size_check = ON")
            connection.text_factory = _text
            if sys.version_info >= (3, 11):
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
            _migrate(connection, migrations)
            # Another program may have left it in WAL mode; this does nothing where it is as we made it.
            connection.execute("PRAGMA journal_mode = DELETE")
        rights.make_private(path, say)
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
        end = time.thread_time() + _SECONDS_TO_COMPUTE
        connection.set_progress_handler(lambda: time.thread_time() > end, _OPERATIONS_BETWEEN_LOOKS)
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            connection.set_progress_handler(None, 0)
            if connection.in_transaction:  # SQLite has ended it by itself when the disk is full
                connection.execute("ROLLBACK")
            raise


@contextmanager
def naming_troubles() -> Iterator[None]:
    """Turn SQLite's errors into words; the caller says what can't be done."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise _trouble(_WORDS.get(_primary_code(error)) or _printable(error)) from error
    except sqlite3.DatabaseError as error:
        raise _trouble("their file is damaged, or isn't one; it is left as it is") from error


# SQLite's primary result codes, by their numbers: Python has their names only from 3.11 on.
_WORDS = {
    5: "another program holds their file; close it",
    8: "their file can't be written to",
    9: "their file takes too long to read",
    10: "the disk doesn't answer as it should",
    13: "the disk is full",
    14: "their file can't be opened",
}


def _trouble(reason: str) -> HistoryError:
    return HistoryError(f"chats can't be kept: {reason}")


def _printable(error: sqlite3.Error) -> str:
    # SQLite quotes the file, which may hold what a terminal would obey.
    return "".join(letter if letter.isprintable() else "?" for letter in str(error)[:200])


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _migrate(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]]) -> None:
    with transaction(connection, writes=False):
        version = _version(connection, len(migrations))
        _check_schema(connection, migrations[:version])
        # As long as quick_check in a file of few tables, and it compares the index as well.
        [verdict] = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise _trouble("their file is damaged; it is left as it is")
        if version == len(migrations):
            return
    with transaction(connection, writes=True):
        # Asked again: another process may have been here meanwhile.
        version = _version(connection, len(migrations))
        _check_schema(connection, migrations[:version])
        for statements in migrations[version:]:
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


_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"


def _check_schema(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]]) -> None:
    """Raise HistoryError when the tables aren't those that these migrations make, and nothing else."""
    model = sqlite3.connect(":memory:")
    try:
        for statements in migrations:
            for statement in statements:
                model.execute(statement)
        wanted = model.execute(_SCHEMA).fetchall()
    finally:
        model.close()
    if connection.execute(_SCHEMA).fetchmany(len(wanted) + 1) != wanted:
        raise _trouble("their file holds tables that aren't this program's; it is left as it is")
