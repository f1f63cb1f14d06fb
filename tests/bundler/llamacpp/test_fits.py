"""`python -m bundler.llamacpp fits`, called as a person calls it."""

import sys
from pathlib import Path

import pytest

from bundler.llamacpp import __main__ as command
from bundler.llamacpp import patch
from tests.bundler.sdists import write_sdist


@pytest.fixture
def patches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "patches").mkdir()
    monkeypatch.setattr(patch, "PATCHES", tmp_path / "patches")
    for name in ("010-a", "020-longer"):
        diff = "--- a/src/a.cpp\n+++ b/src/a.cpp\n" + "".join(f"@@ -1 +1 @@\n-{name} {i}\n+new\n" for i in (1, 2))
        (tmp_path / "patches" / f"{name}.patch").write_text(diff)


def sdist(path: Path, text: str) -> Path:
    return write_sdist(path, {"vendor/llama.cpp/src/a.cpp": text})


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["fits", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    return ended.value.code


@pytest.mark.usefixtures("patches")
def test_each_patch_has_a_line_for_each_sdist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = sdist(tmp_path / "whole.tar.gz", "010-a 1\n010-a 2\n020-longer 1\n020-longer 2\n")
    other = sdist(tmp_path / "other.tar.gz", "010-a 1\n010-a 2\n010-a 2\n020-longer 2\n020-longer 1 and so on\n")
    assert run(monkeypatch, "fits", other, whole) == 1
    assert capsys.readouterr().out == (
        "other.tar.gz\n"
        "  010-a.patch       src/a.cpp, hunk 2: its lines are there 2 times\n"
        "  020-longer.patch  src/a.cpp, hunk 1: its lines are not there\n"
        "whole.tar.gz\n"
        "  010-a.patch       fits\n"
        "  020-longer.patch  fits\n"
    )
    assert run(monkeypatch, "fits", whole) == 0


@pytest.mark.usefixtures("patches")
def test_what_is_no_sdist_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "fits", tmp_path / "missing.tar.gz") == 3
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "missing.tar.gz: can't be read as an sdist" in error
    assert len(error.splitlines()) == 1
