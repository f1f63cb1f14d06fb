"""The command line's edge."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.container import Container, Face
from runtime.extent import Extent
from runtime.program import cli
from runtime.store.place import file_name
from tests.runtime.program.test_parts import bundle

ROOT = Path(__file__).parents[3]


def test_a_users_mistake_is_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["holdall", "--prot", "1"])
    assert cli.main() == 2
    assert capsys.readouterr().err == "error: command line: there is no flag --prot, did you mean --port?; see --help\n"
    monkeypatch.setattr(sys, "argv", ["holdall", "--prot", "1", "--verbose"])
    assert cli.main() == 2
    assert "Traceback" in capsys.readouterr().err


def test_help_and_version_go_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for flag, said in (("--help", "--ctx-size"), ("--version", "holdall 0.")):
        monkeypatch.setattr(sys, "argv", ["holdall", flag])
        assert cli.main() == 0
        assert said in capsys.readouterr().out


def test_the_import_of_the_program_and_its_server_leaves_sqlite_for_later() -> None:
    code = "import sys, runtime.program.cli, runtime.server.app; print('sqlite3' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout == "False\n"


def test_chats_are_kept_under_the_bundles_name_or_its_own_id(tmp_path: Path) -> None:
    environment = {"XDG_DATA_HOME": str(tmp_path)}
    container = bundle(tmp_path / "bundle")
    named = replace(container, manifest=replace(container.manifest, face=Face(id="org.inside")))
    for kept_under, given in (("Inside", container), ("org.inside", named), ("model", None)):
        cli._open_store(given, "model", environment).close()
        assert (tmp_path / "holdall" / file_name(kept_under)).is_file()


def with_args(path: Path, *args: str) -> Container:
    """Return a bundle whose file holds nothing but its default arguments."""
    path.write_text("\n".join(args))
    plain = bundle(path)
    return replace(plain, extents={**plain.extents, ".args": Extent(path, 0, path.stat().st_size)})


@pytest.mark.parametrize(
    ("args", "environment", "words", "is_traced"),
    [
        ((), {}, (), False),
        (("-v",), {}, (), True),
        ((), {"LLAMA_ARG_VERBOSE": "1"}, (), True),
        ((), {}, ("-vc4096",), True),
        (("-vc4096",), {}, (), True),
    ],
    ids=["not asked for", ".args", "environment", "combined", "combined in .args"],
)
def test_an_error_is_traced_wherever_verbose_was_asked_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: tuple[str, ...],
    environment: dict[str, str],
    words: tuple[str, ...],
    is_traced: bool,
) -> None:
    inside = with_args(tmp_path / "bundle", *args)
    monkeypatch.setattr(cli, "locate", lambda _executable: inside)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["holdall", "-m", str(tmp_path / "missing.gguf"), *words])
    assert cli.main() == 4
    said = capsys.readouterr().err
    assert said.splitlines()[-1] == f"error: can't open {tmp_path / 'missing.gguf'}: No such file or directory"
    assert ("Traceback" in said) is is_traced


def test_default_arguments_that_cannot_be_used_are_said_to_be_the_bundles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = with_args(tmp_path / "bundle", "--tmep", "1")
    monkeypatch.setattr(cli, "locate", lambda _executable: inside)
    monkeypatch.setattr(sys, "argv", ["holdall"])
    assert cli.main() == 2
    assert capsys.readouterr().err == "error: .args: there is no flag --tmep, did you mean --temp?\n"


@pytest.mark.parametrize("words", [(), ("--verbose",)], ids=["one line", "traced"])
def test_names_from_files_do_not_reach_the_terminal_raw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    name = "\x1b]0;pwned\x07\x9b2J.gguf"
    monkeypatch.setattr(sys, "argv", ["holdall", "-m", str(tmp_path / name), *words])
    assert cli.main() == 4
    said = capsys.readouterr().err
    assert "\\u001b]0;pwned\\u0007\\u009b2J.gguf" in said
    assert not set("\x1b\x07\x9b") & set(said)


def test_a_bundles_name_does_not_reach_the_terminal_raw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = bundle(tmp_path / "bundle")
    inside = replace(plain, manifest=replace(plain.manifest, name="a\x1b[2J"))
    monkeypatch.setattr(cli, "locate", lambda _executable: inside)
    monkeypatch.setattr(sys, "argv", ["holdall", "--version"])
    assert cli.main() == 0
    assert capsys.readouterr().out.endswith("with a\\u001b[2J\n")
