from pathlib import Path

import pytest

from runtime.errors import HistoryError
from runtime.store.place import chats_file, file_name


@pytest.mark.parametrize(
    ("platform", "environment", "folder"),
    [
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/holdall"),
        ("linux", {"XDG_DATA_HOME": "relative"}, "/home/ada/.local/share/holdall"),
        ("linux", {}, "/home/ada/.local/share/holdall"),
        ("darwin", {"XDG_DATA_HOME": "/data"}, "/home/ada/Library/Application Support/holdall"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/holdall"),
        ("win32", {}, "/home/ada/AppData/Local/holdall"),
    ],
)
def test_chats_are_in_the_users_own_data_folder(
    platform: str, environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    found = chats_file(tmp_path / "bundle", "Tiny", environment, platform)
    assert found == Path(folder) / file_name("Tiny")


def test_the_same_name_finds_the_same_file_and_no_other_name_does() -> None:
    names = ["Tiny", "tiny", "Ti/ny", "Ti ny", "Ti-ny", "", "ü", "ö", "x" * 1000, "x" * 1001]
    assert file_name("Tiny") == "Tiny-37616f64.chats"  # as in every version: people's chats are there
    assert len({file_name(name).lower() for name in names}) == len(names)
    assert all(len(file_name(name)) < 100 and file_name(name).isascii() for name in names)
    assert file_name("../../etc/passwd").startswith("etc-passwd-")


@pytest.mark.parametrize(
    ("executable", "beside"),
    [("Tiny", "Tiny.chats"), ("Tiny.EXE", "Tiny.chats"), ("Llama-3.2", "Llama-3.2.chats")],
)
def test_a_file_beside_the_executable_is_used_where_there_is_one(tmp_path: Path, executable: str, beside: str) -> None:
    environment = {"XDG_DATA_HOME": str(tmp_path / "data")}
    assert chats_file(tmp_path / executable, "Tiny", environment, "linux").parent == tmp_path / "data" / "holdall"
    (tmp_path / beside).touch()
    assert chats_file(tmp_path / executable, "Tiny", environment, "linux") == tmp_path / beside


def test_a_user_without_a_home_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(HistoryError, match="no home folder"):
        chats_file(tmp_path / "bundle", "Tiny", {}, "linux")
