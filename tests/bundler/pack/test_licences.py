from importlib.metadata import distribution
from pathlib import Path

import pytest

from bundler.errors import ToolchainError
from bundler.pack import licences


@pytest.mark.parametrize("name", ["starlette", "uvicorn", "click", "jinja2", "h11", "anyio", "idna", "pyinstaller"])
def test_the_licence_of_what_is_frozen_is_found(name: str) -> None:
    assert licences._licences_of(distribution(name))


def test_licences_are_collected_by_component(tmp_path: Path) -> None:
    licences.collect_licences(
        ["runtime.program.cli", "llama_cpp.llama_cpp", "starlette.routing", "json.decoder"], tmp_path
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pyinstaller", "python", "starlette"]


def test_all_notices_become_one_text_that_names_each(tmp_path: Path) -> None:
    for name, text in (("b", "second\n\n"), ("a", "first")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "LICENSE").write_text(text)
    assert licences.joined(tmp_path) == b"a/LICENSE\n=========\n\nfirst\n\n\nb/LICENSE\n=========\n\nsecond\n"


def test_a_package_without_licence_is_not_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(licences, "_licences_of", lambda package: [])
    with pytest.raises(ToolchainError, match="carries no licence file"):
        licences.collect_licences(["starlette"], tmp_path)
