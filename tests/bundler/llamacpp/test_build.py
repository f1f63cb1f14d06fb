import re
import shutil
from pathlib import Path

import pytest

from bundler.errors import ToolchainError
from bundler.llamacpp import build as llamacpp
from bundler.llamacpp import patch
from bundler.progress import Progress


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


@pytest.mark.parametrize("changed_kind", ["patch", "kernel"])
def test_libraries_are_compiled_anew_for_other_changes_and_not_for_other_words(
    changed_kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = llamacpp.libraries_key()
    mine = shutil.copytree(patch.PATCHES, tmp_path / "patches")
    monkeypatch.setattr(patch, "PATCHES", mine)
    kernel = tmp_path / "ours.h"
    kernel.write_bytes(patch.KERNELS["src/words.h"].read_bytes())
    monkeypatch.setitem(patch.KERNELS, "src/words.h", kernel)
    for path in mine.iterdir():
        path.write_text("Better words.\n" + path.read_text().replace("@@ -1", "@@ -2"))
    assert llamacpp.libraries_key() == before
    changed = kernel if changed_kind == "kernel" else next(mine.glob("*tiles*"))
    changed.write_text(changed.read_text().replace("include", "INCLUDE"))
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
