import re
from pathlib import Path

import pytest

from bundler.errors import HashMismatch, SourceError
from bundler.llamacpp.sdist import SDIST_NAME, SDIST_PROJECT, SDIST_SHA256, read_texts, sdist, unpack
from bundler.progress import Progress
from tests.bundler.index_server import IndexServer
from tests.bundler.sdists import write_sdist


def test_only_what_the_build_needs_is_unpacked(tmp_path: Path, progress: Progress) -> None:
    wanted = [
        "LICENSE.md",
        "llama_cpp/_ctypes_extensions.py",
        "llama_cpp/llama_cpp.py",
        "vendor/llama.cpp/CMakeLists.txt",
        "vendor/llama.cpp/LICENSE",
        "vendor/llama.cpp/ggml/src/ggml.c",
        "vendor/llama.cpp/tools/mtmd/mtmd.cpp",
    ]
    unwanted = ["llama_cpp/llama.py", "llama_cpp/__init__.py", "vendor/llama.cpp/tools/server/server.cpp", "../escape"]
    unpack(write_sdist(tmp_path / "sdist.tar.gz", wanted + unwanted), tmp_path / "out", progress)
    found = [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(found) == wanted


@pytest.mark.usefixtures("cache")
def test_an_altered_source_archive_is_refused_and_not_kept(
    index: IndexServer, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.wheels[SDIST_PROJECT] = {SDIST_NAME: b"not the sources"}
    monkeypatch.setenv("PIP_INDEX_URL", index.index_url)
    for _ in range(2):
        with pytest.raises(HashMismatch, match=SDIST_SHA256):
            sdist(progress)


@pytest.mark.usefixtures("cache")
def test_an_index_without_the_sources_is_named(
    index: IndexServer, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.wheels[SDIST_PROJECT] = {}
    monkeypatch.setenv("PIP_INDEX_URL", index.index_url)
    with pytest.raises(SourceError, match=re.escape(SDIST_NAME)):
        sdist(progress)


def test_texts_are_read_by_their_paths_in_llama_cpps_folder(tmp_path: Path) -> None:
    names = ["src/a.cpp", "vendor/llama.cpp/src/a.cpp", "vendor/llama.cpp/src/b.cpp"]
    archive = write_sdist(tmp_path / "sdist.tar.gz", names)
    assert read_texts(archive, {"src/a.cpp", "src/c.cpp"}) == {"src/a.cpp": "vendor/llama.cpp/src/a.cpp"}


@pytest.mark.parametrize("keep", [0, 10, 100], ids=["empty", "cut in its header", "cut"])
def test_what_is_no_sdist_is_refused_in_words(tmp_path: Path, keep: int) -> None:
    archive = write_sdist(tmp_path / "sdist.tar.gz", [f"vendor/llama.cpp/src/{number}.cpp" for number in range(99)])
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(SourceError, match=r"sdist\.tar\.gz: can't be read as an sdist"):
        read_texts(archive, {"src/98.cpp"})
    with pytest.raises(SourceError, match="can't be read as an sdist"):
        read_texts(tmp_path, {"src/98.cpp"})
