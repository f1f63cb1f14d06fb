"""Whose the file of chats is: made, made private, or refused and left alone. Another user is played by root's chown."""

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.errors import HistoryError
from runtime.store import database, rights
from runtime.store.store import ChatStore
from tests.runtime.store.chats import chat

pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX's")
needs_root = pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root gives files away")

ROOT = Path(__file__).parents[3]
NOBODY = 65534
SECONDS_TO_REFUSE = 20.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tiny.chats"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refusal(path: Path) -> str:
    """Return why the file isn't taken; an open that waits for ever is a failure of its own."""
    said: list[str] = []

    def open_it() -> None:
        try:
            ChatStore(path).close()
        except HistoryError as error:
            said.append(str(error))

    thread = threading.Thread(target=open_it, daemon=True)
    thread.start()
    thread.join(SECONDS_TO_REFUSE)
    assert not thread.is_alive(), "it hangs"
    [words] = said
    assert str(path) not in words
    assert "\n" not in words
    return words


@pytest.mark.parametrize("rights_of_it", [0o666, 0o644, 0o640, 0o660, 0o602, 0o604])
@pytest.mark.parametrize("is_empty", [True, False])
def test_a_file_that_is_open_to_others_is_made_private_with_a_word(
    path: Path, rights_of_it: int, is_empty: bool
) -> None:
    if is_empty:
        path.touch()
    else:
        store = ChatStore(path)
        store.put_chat(chat("c1"))
        store.close()
    path.chmod(rights_of_it)
    said: list[str] = []
    store = ChatStore(path, said.append)
    assert store.ids() == ([] if is_empty else ["c1"])
    store.close()
    assert mode(path) == 0o600
    assert len(said) == 1
    assert "now it is yours alone" in said[0]
    ChatStore(path, said.append).close()
    assert len(said) == 1


def test_a_disk_that_keeps_no_rights_is_told_of_and_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.touch()
    path.chmod(0o666)

    def refused(_descriptor: int, _mode: int) -> None:
        raise PermissionError

    said: list[str] = []
    for change in (refused, lambda _descriptor, _mode: None):
        monkeypatch.setattr(os, "fchmod", change)
        ChatStore(path, said.append).close()
    assert len(said) == 2
    assert all("can read the chats" in each for each in said)


def test_a_file_that_holds_no_chats_keeps_its_rights(path: Path) -> None:
    path.write_text("Dear diary")
    path.chmod(0o644)
    assert "isn't one" in refusal(path)
    assert mode(path) == 0o644


def a_link(path: Path) -> None:
    target = path.with_name("elsewhere")
    database.connect(target).close()
    path.symlink_to(target)


def a_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("not-there"))


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


KINDS: list[tuple[Callable[[Path], object], str]] = [
    (a_link, "is a link"),
    (a_dangling_link, "is a link"),
    (os.mkfifo, "taken by something else"),
    (Path.mkdir, "taken by something else"),
    (a_socket, "taken by something else"),
]


@pytest.mark.parametrize(("make", "words"), KINDS)
@pytest.mark.parametrize("ending", ["", "-journal", "-wal", "-shm"])
def test_what_is_no_plain_file_is_refused_and_left(
    path: Path, make: Callable[[Path], object], words: str, ending: str
) -> None:
    if ending:
        database.connect(path).close()
    make(path.with_name(path.name + ending))
    before = sorted((each.name, each.lstat().st_mode) for each in path.parent.iterdir())
    assert words in refusal(path)
    assert sorted((each.name, each.lstat().st_mode) for each in path.parent.iterdir()) == before


@needs_root
def test_a_device_is_refused(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero, which never ends
    except PermissionError:
        pytest.skip("devices can't be made here")
    assert "taken by something else" in refusal(path)


@needs_root
@pytest.mark.parametrize("ending", ["", "-journal", "-wal", "-shm"])
@pytest.mark.parametrize("rights_of_it", [0o600, 0o666])
def test_another_users_file_is_refused_and_left(path: Path, ending: str, rights_of_it: int) -> None:
    store = ChatStore(path)
    store.put_chat(chat("c1"))
    store.close()
    theirs = path.with_name(path.name + ending)
    if ending:
        theirs.write_bytes(b"not yours")
    before = theirs.read_bytes()
    theirs.chmod(rights_of_it)
    os.chown(theirs, NOBODY, NOBODY)
    assert "another user" in refusal(path)
    assert (theirs.read_bytes(), mode(theirs), theirs.stat().st_uid) == (before, rights_of_it, NOBODY)


def test_a_folder_where_everybody_can_put_files_is_refused(path: Path) -> None:
    path.parent.chmod(0o1777)
    assert "every user of this computer can write" in refusal(path)
    assert list(path.parent.iterdir()) == []
    path.touch()
    assert "every user of this computer can write" in refusal(path)
    path.parent.chmod(0o1700)
    ChatStore(path).close()


def test_roots_file_is_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.touch(0o600)
    monkeypatch.setattr(rights, "_ROOT", path.stat().st_uid)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    ChatStore(path).close()


def test_rights_are_mended_in_the_sandbox_too(path: Path) -> None:
    ChatStore(path, lambda _remark: None).close()
    path.chmod(0o644)
    program = (
        "import sys; from pathlib import Path; from runtime import sandbox; from runtime.store import rights\n"
        "path = Path(sys.argv[1]); sandbox.enter([], [path.parent]); rights.make_private(path, print)"
    )
    words = [sys.executable, "-c", program, str(path)]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "now it is yours alone" in said
    assert mode(path) == 0o600
