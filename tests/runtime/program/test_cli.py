"""The command line's edge, and the program's life without a bundle around it."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from runtime.chat.template import CHATML
from runtime.container import Container, Extent, Face, Manifest, Member, MemberKind
from runtime.errors import ModelError, UsageError
from runtime.program import cli
from runtime.program.options import Settings
from runtime.store.place import file_name

ROOT = Path(__file__).parents[3]


def bundle(path: Path, *, draft: bytes = b"") -> Container:
    members = [Member("inside.gguf", MemberKind.MODEL, 10, "0" * 64)]
    members += [Member("draft-x.gguf", MemberKind.DRAFT, len(draft), "0" * 64)] if draft else []
    extents = {member.name: Extent(path, 65536 * (1 + i), member.size) for i, member in enumerate(members)}
    return Container(path, Manifest("Inside", tuple(members)), extents)


def test_the_model_inside_is_used(tmp_path: Path) -> None:
    executable = tmp_path / "bundle"
    assert cli.find_model(Settings(), bundle(executable), executable) == ("Inside", Extent(executable, 65536, 10))


def test_a_model_that_is_named_wins_over_the_one_inside(tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"12345")
    found = cli.find_model(Settings(model=other), bundle(tmp_path / "bundle"), tmp_path / "bundle")
    assert found == ("other", Extent(other, 0, 5))


def test_without_one_inside_the_model_beside_the_executable_is_used(tmp_path: Path) -> None:
    sidecar = tmp_path / "bundle.gguf"
    sidecar.write_bytes(b"123")
    assert cli.find_model(Settings(), None, tmp_path / "bundle") == ("bundle", Extent(sidecar, 0, 3))


def test_without_any_model_it_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="-m"):
        cli.find_model(Settings(), None, tmp_path / "bundle")
    with pytest.raises(ModelError, match=r"missing\.gguf: No such file"):
        cli.find_model(Settings(model=tmp_path / "missing.gguf"), None, tmp_path / "bundle")


def test_a_draft_model_is_named_or_lies_inside_beside_the_model_that_is_used(tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"12345")
    inside = bundle(tmp_path / "bundle", draft=b"123")
    assert cli.find_draft(Settings(draft_model=other), inside) == Extent(other, 0, 5)
    found = cli.find_draft(Settings(), inside)
    assert found is not None
    assert found.size == 3
    assert cli.find_draft(Settings(model=other), inside) is None
    assert cli.find_draft(Settings(), None) is None


def test_the_projector_is_the_named_one_else_the_one_inside_with_its_model(tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"12345")
    members = (
        Member("inside.gguf", MemberKind.MODEL, 10, "0" * 64),
        Member("mmproj-inside.gguf", MemberKind.PROJECTOR, 5, "1" * 64),
    )
    extents = {name: Extent(tmp_path / "bundle", 65536, 5) for name in ("inside.gguf", "mmproj-inside.gguf")}
    inside = Container(tmp_path / "bundle", Manifest("Inside", members), extents)
    assert cli.find_projector(Settings(projector=other), inside) == Extent(other, 0, 5)
    assert cli.find_projector(Settings(), inside) == extents["mmproj-inside.gguf"]
    assert cli.find_projector(Settings(no_projector=True), inside) is None
    assert cli.find_projector(Settings(model=other), inside) is None
    assert cli.find_projector(Settings(), None) is None
    with pytest.raises(ModelError, match="missing"):
        cli.find_projector(Settings(projector=tmp_path / "missing"), None)


def with_adapter(path: Path) -> Container:
    members = (
        Member("inside.gguf", MemberKind.MODEL, 10, "0" * 64),
        Member("lora-pirate.gguf", MemberKind.LORA, 5, "1" * 64),
    )
    extents = {"inside.gguf": Extent(path, 65536, 10), "lora-pirate.gguf": Extent(path, 131072, 5)}
    return Container(path, Manifest("Inside", members), extents)


def test_adapters_are_those_inside_and_then_those_that_are_named(tmp_path: Path) -> None:
    executable, named = tmp_path / "bundle", tmp_path / "other.gguf"
    named.write_bytes(b"123")
    inside = ("lora-pirate.gguf", Extent(executable, 131072, 5), 1.0)
    chosen = Settings(lora=(str(named),), lora_scaled=(f"{named}:-0.5",))
    other = [("other.gguf", Extent(named, 0, 3), 1.0), ("other.gguf", Extent(named, 0, 3), -0.5)]
    assert cli.find_adapters(chosen, with_adapter(executable)) == [inside, *other]
    # An adapter is for the model that it was packed with.
    assert cli.find_adapters(Settings(model=named), with_adapter(executable)) == []
    with pytest.raises(ModelError, match="missing"):
        cli.find_adapters(Settings(lora=("missing.gguf",)), None)


@pytest.mark.parametrize("scale", ["", "x", "nan", "inf"])
def test_a_scale_that_is_no_number_is_a_usage_error(scale: str) -> None:
    with pytest.raises(UsageError, match="FILE:SCALE"):
        cli.find_adapters(Settings(lora_scaled=(f"a.gguf:{scale}",)), None)


def test_a_users_mistake_is_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["holdall", "--prot", "1"])
    assert cli.main() == 2
    assert capsys.readouterr().err == "error: command line: there is no flag --prot, did you mean --port?; see --help\n"
    monkeypatch.setattr(sys, "argv", ["holdall", "--prot", "1", "--verbose"])
    assert cli.main() == 2
    assert "Traceback" in capsys.readouterr().err


def test_keys_come_from_the_flag_and_the_file(tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("# ours\none\n\n  two \n")
    chosen = cli.with_files_read(Settings(api_keys=("zero",), api_key_file=keys))
    assert chosen.api_keys == ("zero", "one", "two")


@pytest.mark.parametrize(
    ("content", "said"), [(None, "can't read"), (b"# none\n", "no key"), (b"\xff\xfe", "no text in UTF-8")]
)
def test_a_key_file_without_a_key_lets_nobody_start(tmp_path: Path, content: bytes | None, said: str) -> None:
    keys = tmp_path / "keys.txt"
    if content is not None:
        keys.write_bytes(content)
    with pytest.raises(UsageError, match=f"--api-key-file: .*{said}"):
        cli.with_files_read(Settings(api_key_file=keys))


def test_a_chat_template_is_jinja_or_a_file_of_it(tmp_path: Path) -> None:
    file = tmp_path / "x.jinja"
    file.write_text("{{ messages }}")
    assert cli.with_files_read(Settings(chat_template_file=file)).chat_template == "{{ messages }}"
    assert cli.with_files_read(Settings(chat_template="chatml")).chat_template == CHATML
    assert cli.with_files_read(Settings(chat_template="{{ x }}")).chat_template == "{{ x }}"


@pytest.mark.parametrize(
    ("template", "is_name"), [(None, False), ("llama2", True), ("{{ llama2 }}", False), ("only words", False)]
)
def test_a_chat_template_may_be_one_of_llama_cpps_names(template: str | None, is_name: bool) -> None:
    assert cli.is_template_name(template, ("llama2", "gemma")) is is_name


def test_what_is_no_chat_template_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UsageError, match=r"--chat-template: 'lama' is no Jinja .*, and none of .*: gemma, llama2$"):
        cli.is_template_name("lama", ("llama2", "gemma"))


def test_help_and_version_go_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for flag, said in (("--help", "--ctx-size"), ("--version", "holdall 0.")):
        monkeypatch.setattr(sys, "argv", ["holdall", flag])
        assert cli.main() == 0
        assert said in capsys.readouterr().out


def launch(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "runtime", "--nobrowser", *arguments]
    variables = {**os.environ, "DISPLAY": "", **environment}
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=variables)


def test_it_serves_until_a_signal_and_ends_without_a_word(stories260k: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    process = launch("-m", str(stories260k), "--port", str(port), "-c", "0", "-t", "0")
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == f"stories260K is at http://127.0.0.1:{port}; Ctrl-C ends it\n"
        deadline = time.monotonic() + 60
        while httpx.get(f"http://127.0.0.1:{port}/health", timeout=30).status_code != 200:
            assert time.monotonic() < deadline
        props = httpx.get(f"http://127.0.0.1:{port}/props", timeout=30).json()
        assert props["default_generation_settings"]["n_ctx"] == 2048  # -c 0: what the model was trained for
    finally:
        process.send_signal(signal.SIGTERM)
        _out, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")


def test_a_model_that_cannot_be_loaded_ends_the_program_in_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF\x03\x00\x00\x00" + b"\x01" * 100)
    process = launch("-m", str(broken), "--port", "0")
    _out, said = process.communicate(timeout=60)
    assert process.returncode == 4
    assert said.splitlines()[-1].startswith(f"error: can't load the model in {broken}: ")
    assert "Traceback" not in said


@pytest.mark.parametrize(("host", "is_warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
@pytest.mark.parametrize("key", [(), ("--api-key", "k")], ids=["open", "key"])
def test_listening_elsewhere_without_a_key_is_warned_of(
    stories260k: Path, host: str, is_warned: bool, key: tuple[str, ...]
) -> None:
    program = launch("-m", str(stories260k), "--host", host, "--port", "0", *key)
    assert program.stderr is not None
    try:
        address = program.stderr.readline().split(" is at ")[1].split(";")[0]
        if is_warned and not key:
            assert program.stderr.readline().startswith("warning: other computers can use it without a key")
        for headers, status in (({}, 401 if key else 200), ({"x-api-key": "k"}, 200)):
            assert httpx.get(f"{address}/props", headers=headers, timeout=20).status_code == status
    finally:
        program.send_signal(signal.SIGTERM)
        _, rest = program.communicate(timeout=20)
    assert rest == ""


def test_what_strangers_send_is_no_news_for_the_terminal(stories260k: Path) -> None:
    program = launch("-m", str(stories260k), "--port", "0")
    assert program.stderr is not None
    try:
        port = int(program.stderr.readline().split(";")[0].rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as stranger:
            stranger.sendall(b"\x16\x03\x01\r\n\r\n")
            assert b"400 Bad Request" in stranger.recv(1000)
    finally:
        program.send_signal(signal.SIGTERM)
        _, rest = program.communicate(timeout=20)
    assert rest == ""


OUR_PAGE = {"x-holdall": "page"}


def test_chats_survive_the_program_and_quit_ends_it(stories260k: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in range(2):
        program = launch("-m", str(stories260k), "--port", "0", XDG_DATA_HOME=str(data))
        assert program.stderr is not None
        try:
            address = program.stderr.readline().split(" is at ")[1].split(";")[0]
            chats = httpx.get(f"{address}/chats", timeout=20).json()["chats"]
            assert [each["title"] for each in chats] == ["Kept"] * number
            question = {"role": "user", "content": "Why?", "title": "Kept"}
            httpx.put(f"{address}/chats/c1/messages/m1", json=question, headers=OUR_PAGE, timeout=20).raise_for_status()
            assert httpx.post(f"{address}/quit", headers=OUR_PAGE, timeout=20).json() == {"quitting": True}
            _, rest = program.communicate(timeout=20)
        finally:
            program.kill()
        assert (program.returncode, rest) == (0, "")
    [file] = (data / "holdall").iterdir()
    assert file.name.startswith("stories260K-")


def test_chats_that_cannot_be_kept_are_one_line_and_stop_nothing(stories260k: Path, tmp_path: Path) -> None:
    (tmp_path / "holdall").mkdir()
    file = tmp_path / "holdall" / file_name("stories260K")
    file.write_text("Dear diary")
    program = launch("-m", str(stories260k), "--port", "0", XDG_DATA_HOME=str(tmp_path))
    assert program.stderr is not None
    try:
        address = program.stderr.readline().split(" is at ")[1].split(";")[0]
        shown = httpx.get(f"{address}/page.json", timeout=20).json()
        assert (shown["has_history"], shown["history_problem"][:20]) == (False, "chats can't be kept:")
        assert str(tmp_path) not in shown["history_problem"]
        assert httpx.get(f"{address}/chats", timeout=20).status_code == 503
        body = {"prompt": "Once", "n_predict": 2}
        assert httpx.post(f"{address}/completion", json=body, timeout=60).json()["tokens_predicted"] == 2
    finally:
        program.send_signal(signal.SIGTERM)
        _, rest = program.communicate(timeout=20)
    [line] = rest.splitlines()
    assert line.startswith("warning: chats can't be kept:")
    assert str(file) in line
    assert file.read_text() == "Dear diary"


def test_without_history_nothing_is_written(stories260k: Path, tmp_path: Path) -> None:
    program = launch("-m", str(stories260k), "--port", "0", "--no-history", XDG_DATA_HOME=str(tmp_path))
    assert program.stderr is not None
    try:
        address = program.stderr.readline().split(" is at ")[1].split(";")[0]
        assert httpx.get(f"{address}/page.json", timeout=20).json()["has_history"] is False
        assert httpx.get(f"{address}/chats", timeout=20).status_code == 404
    finally:
        program.send_signal(signal.SIGTERM)
        program.communicate(timeout=20)
    assert list(tmp_path.iterdir()) == []


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
