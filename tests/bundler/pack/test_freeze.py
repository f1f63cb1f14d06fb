import re
import shutil
from pathlib import Path

import pytest

from bundler.errors import ToolchainError
from bundler.pack import freeze

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own, to be changed."""
    for name in ("runtime", "webclient"):
        shutil.copytree(ROOT / name, tmp_path / "tree" / name)
    monkeypatch.setattr(freeze, "_ROOT", tmp_path / "tree")
    return tmp_path / "tree"


@pytest.mark.parametrize("name", ["runtime/program/cli.py", "runtime/engine/policy/text.py", "webclient/index.html"])
def test_a_changed_file_makes_another_pack(tree: Path, name: str) -> None:
    before = freeze.pack_key()
    assert freeze.pack_key() == before
    (tree / name).write_text((tree / name).read_text() + "\n")
    assert freeze.pack_key() != before


def test_what_is_not_frozen_does_not_change_the_pack(tree: Path) -> None:
    before = freeze.pack_key()
    (tree / "runtime" / "__pycache__").mkdir(exist_ok=True)
    (tree / "runtime" / "__pycache__" / "new.pyc").write_bytes(b"compiled")
    (tree / "README.md").write_text("words")
    assert freeze.pack_key() == before


def test_other_libraries_make_another_pack(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = freeze.pack_key()
    monkeypatch.setattr(freeze, "libraries_key", lambda: "others")
    assert freeze.pack_key() != before


def test_a_renamed_file_makes_another_pack(tree: Path) -> None:
    before = freeze.pack_key()
    (tree / "webclient" / "app.js").rename(tree / "webclient" / "zzz.js")
    assert freeze.pack_key() != before


def test_a_failed_freeze_names_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho it broke\nexit 4\n")
    broken.chmod(0o755)
    monkeypatch.setattr(freeze, "PYTHON", broken)
    log = tmp_path / "log"
    with pytest.raises(ToolchainError, match=f"PyInstaller ended with 4; see {re.escape(str(log))}"):
        freeze.freeze(tmp_path / "libraries", tmp_path / "work", log)
    assert log.read_text() == "it broke\n"


def test_a_python_that_cannot_be_frozen_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freeze, "_python_library", lambda: None)
    values = {"INSTSONAME": "libpython3.11.a"}
    monkeypatch.setattr(freeze.sysconfig, "get_config_var", values.get)
    with pytest.raises(ToolchainError, match="without a shared library"):
        freeze._check_python()
    values["INSTSONAME"] = "libpython9.99.so.1.0"
    with pytest.raises(ToolchainError, match="apt-get install libpython"):
        freeze._check_python()
