"""Whose a file of chats is, and who can read it: this user alone, or it isn't used.

Beside an executable that many have, in a folder like /tmp, anybody can put a file of chats, or a link, or the journal
that SQLite would take for its own and play into the chats. What another user has made is refused and left alone; what
is this user's but open to others is made private. Root's files count as the user's own, for root needs no such tricks.
"""

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from runtime.errors import HistoryError

_ROOT = 0
_OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_SHARED = stat.S_ISVTX | stat.S_IWOTH  # as /tmp is: everybody adds files, and removes their own only
# What SQLite keeps beside its file; the last two only where another program has been at it.
_COMPANIONS = ("-journal", "-wal", "-shm")
_NEVER_BY_A_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def take(path: Path) -> None:
    """Make the file, with its folder, where there is none, and see that nobody else has made it or what is beside it.

    Raises HistoryError, which names no path.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name == "posix" and path.parent.stat().st_mode & _SHARED == _SHARED:
            raise _refused("every user of this computer can write to their folder; move the program to one of yours")
        for companion in (path, *(path.with_name(path.name + ending) for ending in _COMPANIONS)):
            _check_kind(companion)
        # SQLite gives its journal the rights of the file.
        file = os.open(path, os.O_RDWR | os.O_CREAT | _NEVER_BY_A_LINK, 0o600)
        try:
            _check_owner(os.fstat(file))
        finally:
            os.close(file)
    except OSError as error:
        raise _refused(f"their file can't be written to ({error.strerror or error})") from error


def _check_kind(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise _refused("their file is a link to another place; put the file itself there")
    if not stat.S_ISREG(found.st_mode):
        raise _refused("their file's name is taken by something else")
    _check_owner(found)


def _check_owner(found: os.stat_result) -> None:
    if os.name == "posix" and found.st_uid not in (os.geteuid(), _ROOT):
        raise _refused("their file belongs to another user of this computer; it is left as it is")


def make_private(path: Path, say: Callable[[str], None]) -> None:
    """Keep others from a file that was found to hold chats; `say` is called with what the person should know of it."""
    if os.name != "posix" or not path.lstat().st_mode & _OPEN_TO_OTHERS:
        return
    with contextlib.suppress(OSError):  # a FAT file system, or root's file: it is said below
        # By descriptor: a call with a path could reach any file, so the sandbox refuses it. Closing one ends SQLite's
        # locks on the file, of which there are none between transactions.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.fchmod(descriptor, stat.S_IRUSR | stat.S_IWUSR)
        finally:
            os.close(descriptor)
    if path.lstat().st_mode & _OPEN_TO_OTHERS:
        say("other users of this computer can read the chats: the rights of their file can't be changed")
    else:
        say("the file of chats was open to other users of this computer; now it is yours alone")


def _refused(reason: str) -> HistoryError:
    return HistoryError(f"chats can't be kept: {reason}")
