"""The pinned source of llama.cpp's libraries and their bindings: llama-cpp-python's sdist, fetched and unpacked.

The sdist vendors the llama.cpp that its bindings were written for, so the structures always match.
"""

import os
import shutil
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from bundler import cache
from bundler.errors import SourceError
from bundler.progress import Progress
from bundler.sources.model import places_from
from bundler.sources.package_index import Project

SDIST_PROJECT = "llama-cpp-python"
SDIST_NAME = "llama_cpp_python-0.3.36.tar.gz"
SDIST_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"

LLAMA_CPP = PurePosixPath("vendor/llama.cpp")

# The bindings alone: the package's own `__init__` would import numpy and much else.
BINDINGS = ("llama_cpp.py", "mtmd_cpp.py", "_ctypes_extensions.py")

# Each notice, and its place among a bundle's licences.
NOTICES = {
    LLAMA_CPP / "LICENSE": "llama.cpp/LICENSE",
    # The other sources that only libmtmd draws in, stb_image, miniaudio and a sha256, are in the public domain.
    LLAMA_CPP / "vendor/hash/rotate-bits/LICENSE.md": "rotate-bits/LICENSE.md",
    PurePosixPath("LICENSE.md"): "llama-cpp-python/LICENSE.md",
}
_SOURCES = tuple(
    LLAMA_CPP / part for part in ("CMakeLists.txt", "cmake", "ggml", "include", "src", "tools/mtmd", "vendor")
)


def sdist(progress: Progress) -> Path:
    """Return the pinned source archive, fetched from the index that pip uses and kept."""

    def make(folder: Path) -> None:
        project = Project(places_from(os.environ).index, SDIST_PROJECT)
        project.download_pinned(SDIST_NAME, SDIST_SHA256, folder, progress)

    return cache.entry("sdist", SDIST_SHA256[:16], make) / SDIST_NAME


def unpack(archive: Path, folder: Path, progress: Progress) -> None:
    """Write what the build needs of the source archive into `folder`."""
    progress.step(f"unpacking {archive.name}")
    with tarfile.open(archive) as source:
        for member in source:
            inside = _inside(member)
            data = source.extractfile(member) if member.isfile() and _is_wanted(inside) else None
            if data is not None:
                path = folder / inside
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    shutil.copyfileobj(data, file)


def read_texts(archive: Path, paths: Collection[str]) -> dict[str, str]:
    """Return the texts of files by their paths in llama.cpp's folder, as far as the archive, of any version, has them.

    Raises SourceError when it can't be read.
    """
    wanted = {LLAMA_CPP / path: path for path in paths}
    texts: dict[str, str] = {}
    try:
        with tarfile.open(archive) as source:
            for member in source:
                path = wanted.get(_inside(member))
                data = source.extractfile(member) if path is not None and member.isfile() else None
                if path is not None and data is not None:
                    texts[path] = data.read().decode()
                if len(texts) == len(wanted):
                    break
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise SourceError(f"{archive}: can't be read as an sdist ({error})") from error
    return texts


def _inside(member: tarfile.TarInfo) -> PurePosixPath:
    """Return a member's path without the folder that all of an sdist lies in."""
    return PurePosixPath(*PurePosixPath(member.name).parts[1:])


def _is_wanted(inside: PurePosixPath) -> bool:
    if inside in NOTICES or (inside.parent == PurePosixPath("llama_cpp") and inside.name in BINDINGS):
        return True
    return any(inside == source or source in inside.parents for source in _SOURCES)
