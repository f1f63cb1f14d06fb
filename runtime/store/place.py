"""Where a bundle's chats lie. Looks at the disk once, for the file beside the executable; makes nothing.

A file `<executable>.chats` beside the executable is used where there is one, so that a bundle on a USB stick takes its
chats along. Otherwise they are in the user's own data folder, in a file named after the bundle: a rebuilt bundle of
the same name finds its chats again, and no other bundle sees them.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from runtime.errors import HistoryError

SUFFIX = ".chats"
_FOLDER = "holdall"
_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_NAME = 60


def chats_file(executable: Path, identity: str, environment: Mapping[str, str], platform: str) -> Path:
    """Return the file of the bundle that calls itself `identity`; `platform` is as in `sys.platform`.

    Raises HistoryError when this user has no place to keep anything.
    """
    beside = executable.with_name(_without_exe(executable.name) + SUFFIX)
    if beside.exists():
        return beside
    return _data_folder(environment, platform) / _FOLDER / file_name(identity)


def file_name(identity: str) -> str:
    """Return a name that any file system takes; the hash keeps apart what reads alike after that."""
    readable = _UNUSUAL.sub("-", identity)[:_MAX_NAME].strip("-.")
    return f"{readable or 'bundle'}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}{SUFFIX}"


def _without_exe(name: str) -> str:
    return name[:-4] if name.lower().endswith(".exe") else name


def _data_folder(environment: Mapping[str, str], platform: str) -> Path:
    if platform == "win32":
        given = environment.get("LOCALAPPDATA", "")
        return Path(given) if given else _home() / "AppData" / "Local"
    if platform == "darwin":
        return _home() / "Library" / "Application Support"
    given = environment.get("XDG_DATA_HOME", "")
    # The XDG Base Directory Specification: a relative path is to be ignored.
    return Path(given) if given.startswith("/") else _home() / ".local" / "share"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise HistoryError("chats can't be kept: this user has no home folder") from None
