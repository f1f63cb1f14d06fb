"""build.py, with every command it would run written down instead."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("holdall_build", ROOT / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in {"ROOT": tmp_path, "VENV": tmp_path / ".venv", "STAMP": tmp_path / ".venv" / "stamp"}.items():
        monkeypatch.setattr(module, name, value)
    for name in ("LOCK", "PROJECT"):
        monkeypatch.setattr(module, name, tmp_path / name)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(module, "LOG", tmp_path / "build" / "log")
    return module


@pytest.fixture
def commands(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is run, shown or not."""
    seen: list[str] = []

    def run(command: list[object]) -> int:
        seen.append(" ".join(map(str, command[1:])))
        return 0

    def run_showing(label: str, command: list[object]) -> None:
        seen.append(label)

    monkeypatch.setattr(build, "run", run)
    monkeypatch.setattr(build, "run_showing", run_showing)
    return seen


MAKING = ["making .venv", "installing the dependencies", "installing holdall"]


def test_no_words_build_the_default_model(build: ModuleType, commands: list[str]) -> None:
    assert build.main([]) == 0
    assert commands == [*MAKING, "-m bundler build"]


def test_build_hands_its_words_on(build: ModuleType, commands: list[str]) -> None:
    assert build.main(["build", "x.gguf", "-o", "out"]) == 0
    assert commands[-1] == "-m bundler build x.gguf -o out"


def test_bench_builds_the_default_bundle_and_hands_its_words_to_every_comparison(
    build: ModuleType, commands: list[str]
) -> None:
    assert build.main(["bench", "--rounds", "1"]) == 0
    built, *measured = commands[len(MAKING) :]
    bundle = build.ROOT / "dist" / "bench" / "SmolLM2-135M-Instruct"
    assert built == f"-m bundler build --quiet -o {bundle}"
    assert measured == [f"{build.ROOT / 'benchmarks' / name} {bundle} --rounds 1" for name in build.BENCHMARKS]
    assert all((ROOT / "benchmarks" / name).is_file() for name in build.BENCHMARKS)


def test_test_checks_all_and_hands_its_words_to_pytest(build: ModuleType, commands: list[str]) -> None:
    assert build.main(["test", "-x"]) == 0
    tools = [command.split()[1] for command in commands[len(MAKING) :]]
    assert tools == ["bundler.llamacpp.development", "ruff", "ruff", "mypy", "pytest"]
    assert commands[-1] == "-m pytest -x"


def test_one_failed_check_fails_the_whole_but_hides_no_other(
    build: ModuleType, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_in_mypy(command: list[object]) -> int:
        commands.append(str(command[2]))
        return 2 if command[2] == "mypy" else 0

    monkeypatch.setattr(build, "run", fail_in_mypy)
    assert build.main(["test"]) == 2
    assert commands[-1] == "pytest"


def test_a_finished_environment_is_used_again(build: ModuleType, commands: list[str]) -> None:
    build.main([])
    build.main([])
    assert commands == [*MAKING, "-m bundler build", "-m bundler build"]


@pytest.mark.parametrize("change", ["lock", "project", "half-made"])
def test_another_or_half_made_environment_is_made_anew(build: ModuleType, commands: list[str], change: str) -> None:
    build.main([])
    (build.VENV / "old").write_text("left over")
    {"lock": build.LOCK, "project": build.PROJECT, "half-made": build.STAMP}[change].write_text("other")
    commands.clear()
    build.main([])
    assert commands[:3] == MAKING
    assert not (build.VENV / "old").exists()


def test_somebody_elses_environment_is_never_touched(
    build: ModuleType, commands: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    build.VENV.mkdir()
    (build.VENV / "theirs").write_text("made by hand")
    assert build.main([]) == 1
    assert commands == []
    assert (build.VENV / "theirs").read_text() == "made by hand"
    assert "was not made by build.py" in capsys.readouterr().err


def test_an_interrupted_environment_is_known_as_ours(
    build: ModuleType, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(label: str, command: list[object]) -> None:
        raise build.CannotBuild("out of disk")

    with monkeypatch.context() as broken:
        broken.setattr(build, "run_showing", fail)
        assert build.main([]) == 1
    assert build.main([]) == 0
    assert commands[:3] == MAKING


def test_an_unknown_command_is_refused_before_anything_is_made(
    build: ModuleType, commands: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert build.main(["tset"]) == 1
    assert commands == []
    assert capsys.readouterr().err.startswith("error: unknown command 'tset'")


def test_a_missing_venv_module_is_named_with_its_remedy(
    build: ModuleType, commands: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    assert build.main([]) == 1
    assert commands == []
    assert f"apt-get install python3.{sys.version_info.minor}-venv" in capsys.readouterr().err


def test_an_old_python_is_told_which_is_needed(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "OLDEST_PYTHON", (99, 1))
    assert build.main([]) == 1
    assert "Python 99.1 or newer is needed" in capsys.readouterr().err


def test_a_failed_step_names_its_log_and_leaves_no_stamp(build: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(build.CannotBuild, match="trying failed; the log is"):
        build.run_showing("trying", [sys.executable, "-c", "print('why'); raise SystemExit(1)"])
    assert build.LOG.read_text() == "why\n"


def test_the_exit_status_is_the_commands(build: ModuleType) -> None:
    assert build.run([sys.executable, "-c", "raise SystemExit(7)"]) == 7
    assert build.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 15)"]) == 128 + 15
