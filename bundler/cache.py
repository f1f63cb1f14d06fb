"""Where slow results are kept between builds: folders under one root, each named by a hash of all its inputs.

It doesn't know what it keeps. An entry is made in a temporary folder and renamed into place, so an entry that exists
is complete, and two builds at once make it once: the second waits for the lock and finds it done.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import filelock
import platformdirs

from bundler.errors import ToolchainError

# Longer than any step takes on a slow machine; a build that was killed holds no lock.
_LOCK_TIMEOUT_SECONDS = 3600


def root() -> Path:
    """The cache's folder: `$HOLDALL_CACHE`, else the user's cache folder. Deleting it is always safe."""
    chosen = os.environ.get("HOLDALL_CACHE")
    return Path(chosen).absolute() if chosen else platformdirs.user_cache_path("holdall")


def key_of(*inputs: str | bytes) -> str:
    """A name for what these inputs make; the lengths keep ("ab", "c") apart from ("a", "bc")."""
    digest = hashlib.sha256()
    for given in inputs:
        data = given.encode() if isinstance(given, str) else given
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:16]


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def entry(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder `<root>/<kind>/<key>`; when there is none, `make` fills an empty folder that becomes it."""
    folder = root() / kind / key
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.with_name(f"{key}.lock"), timeout=_LOCK_TIMEOUT_SECONDS):
            if not folder.is_dir():
                temporary = Path(tempfile.mkdtemp(prefix=f"{key}.", suffix=".tmp", dir=folder.parent))
                try:
                    make(temporary)
                    temporary.chmod(0o755)
                    temporary.rename(folder)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
    except filelock.Timeout as error:
        raise ToolchainError(f"another build has held {error.lock_file} for an hour; end it and try again") from error
    except OSError as error:
        raise ToolchainError(f"can't write the cache folder {folder.parent}: {error.strerror or error}") from error
    return folder
