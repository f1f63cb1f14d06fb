from pathlib import Path

import pytest

from bundler.errors import ToolchainError
from bundler.llamacpp import build as llamacpp
from bundler.llamacpp import changes
from bundler.llamacpp.changes import Change


def test_a_change_is_made_once_and_only_where_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added = tmp_path / "ours.h"
    added.write_text("// ours\n")
    monkeypatch.setattr(changes, "CHANGES", (Change("src/a.cpp", "old", "new and old"),))
    monkeypatch.setattr(changes, "ADDED", {"src/a.h": added})
    path = tmp_path / "src" / "a.cpp"
    path.parent.mkdir()
    path.write_text("an old line\n")
    changes.apply(tmp_path)
    assert path.read_text() == "an new and old line\n"
    assert path.with_name("a.h").read_text() == "// ours\n"
    path.write_text("old and old\n")
    with pytest.raises(ToolchainError, match=r"src/a.cpp has changed"):
        changes.apply(tmp_path)


def test_libraries_are_compiled_anew_for_a_new_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [llamacpp.libraries_key()]
    monkeypatch.setattr(changes, "CHANGES", (*changes.CHANGES, Change("src/a.cpp", "old", "newer")))
    keys.append(llamacpp.libraries_key())
    added = tmp_path / "ours.h"
    for text in ("// ours\n", "// ours, changed\n"):
        added.write_text(text)
        monkeypatch.setattr(changes, "ADDED", {"src/a.h": added})
        keys.append(llamacpp.libraries_key())
    assert len({*keys}) == len(keys)
