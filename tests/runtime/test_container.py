import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.container import (
    ALIGNMENT,
    ARGS_NAME,
    FORMAT_VERSION,
    MANIFEST_NAME,
    RUNTIME_NAME,
    Container,
    Extent,
    Face,
    Manifest,
    Member,
    MemberKind,
    Writer,
    locate,
    open_container,
)
from runtime.errors import ContainerError

MODEL = b"GGUF" + bytes(range(256)) * 400
STUB = b"\x7fELF" + b"s" * 70_000


def member(name: str, data: bytes, kind: MemberKind = MemberKind.MODEL) -> Member:
    return Member(name, kind, len(data), hashlib.sha256(data).hexdigest())


def write(path: Path, contents: dict[str, bytes], stub: bytes = STUB, **said: object) -> Manifest:
    kinds = {ARGS_NAME: MemberKind.ARGS, RUNTIME_NAME: MemberKind.RUNTIME}
    members = tuple(member(name, data, kinds.get(name, MemberKind.MODEL)) for name, data in contents.items())
    manifest = Manifest(name="tiny", members=members, **said)  # type: ignore[arg-type]
    with path.open("wb") as file:
        file.write(stub)
        writer = Writer(file, manifest)
        for name, data in contents.items():
            writer.add(name, [data[:10], data[10:]])
        writer.close()
    return manifest


def read(extent: Extent) -> bytes:
    with extent.path.open("rb") as file:
        file.seek(extent.offset)
        return file.read(extent.size)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    write(path, {ARGS_NAME: b"-c\n 512 \n\n# no\n", "tiny.gguf": MODEL, RUNTIME_NAME: b"pkg" * 999})
    return path


names = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/\\", exclude_categories=("Cs",)), min_size=1, max_size=20
)
contents = st.dictionaries(
    names.filter(lambda n: n not in (MANIFEST_NAME, ARGS_NAME)), st.binary(max_size=3000), max_size=5
)


@settings(max_examples=60)
@given(contents, st.binary(max_size=70_000), st.text(max_size=30), st.integers(0, 3 * ALIGNMENT))
def test_what_goes_in_comes_out_aligned(
    tmp_path_factory: pytest.TempPathFactory, given_contents: dict[str, bytes], stub: bytes, text: str, length: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip"
    everything = given_contents | {"long.gguf": bytes(length)}
    manifest = write(path, everything, stub, description=text, model={"n": 1, "list": [None, {"x": 1.5}]})
    container = open_container(path)
    assert container.manifest == manifest
    for name, data in everything.items():
        assert container.extent(name).offset % ALIGNMENT == 0
        assert read(container.extent(name)) == data
    assert path.read_bytes().startswith(stub)


def test_the_model_and_the_arguments_are_found(bundle: Path) -> None:
    container = open_container(bundle)
    model = container.model()
    assert model is not None
    assert read(model) == MODEL
    assert container.args() == ["-c", "512"]


def test_a_container_without_model_or_arguments_says_so(tmp_path: Path) -> None:
    write(tmp_path / "bare", {RUNTIME_NAME: b"pkg"})
    container = open_container(tmp_path / "bare")
    assert container.model() is None
    assert container.args() == []
    with pytest.raises(ContainerError, match="no member other"):
        container.extent("other")


def test_the_manifest_comes_first_and_the_runtime_last(bundle: Path) -> None:
    offsets = {name: extent.offset for name, extent in open_container(bundle).extents.items()}
    assert sorted(offsets, key=offsets.__getitem__) == [MANIFEST_NAME, ARGS_NAME, "tiny.gguf", RUNTIME_NAME]
    assert offsets[MANIFEST_NAME] == 2 * ALIGNMENT


def test_the_same_members_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, {"m.gguf": MODEL})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with zipfile.ZipFile(tmp_path / "a") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        ("1700000000", (2023, 11, 14, 22, 13, 20)),
        ("0", (1980, 1, 1, 0, 0, 0)),
        ("99999999999", (2107, 12, 31, 23, 59, 58)),
        ("soon", (1980, 1, 1, 0, 0, 0)),
    ],
)
def test_source_date_epoch_is_the_time_of_every_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: str, expected: tuple[int, ...]
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    write(tmp_path / "dated", {"m.gguf": MODEL})
    with zipfile.ZipFile(tmp_path / "dated") as archive:
        assert {info.date_time for info in archive.infolist()} == {expected}


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_unzip_accepts_a_bundle_and_takes_the_model_out(bundle: Path, tmp_path: Path) -> None:
    tested = subprocess.run(["unzip", "-t", bundle], capture_output=True, text=True, timeout=30)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "warning" not in (tested.stdout + tested.stderr).lower()
    taken = subprocess.run(["unzip", "-p", bundle, "tiny.gguf"], capture_output=True, timeout=30)
    assert taken.stdout == MODEL


def test_zipfile_lists_a_bundle(bundle: Path) -> None:
    command = [sys.executable, "-m", "zipfile", "-l", bundle]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert "tiny.gguf" in listed.stdout


class Holes:
    """A file that remembers only what isn't zero; writing gigabytes of zeros to it costs nothing on the disk."""

    def __init__(self, file: io.BufferedRandom) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        if data is _ZEROS:
            self._file.seek(len(data), os.SEEK_CUR)
            return len(data)
        return self._file.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


_ZEROS = bytes(1 << 26)


def test_members_beyond_4_gib_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Hashing 5 GiB would take most of the test's time and is not what it is about.
    monkeypatch.setattr("runtime.container.hashlib.sha256", _Fixed)
    monkeypatch.setattr("zipfile.crc32", lambda data, crc=0: crc)
    num_chunks = 70  # of 64 MiB: 4.4 GiB
    big = Member("big.gguf", MemberKind.MODEL, num_chunks * len(_ZEROS), _Fixed().hexdigest())
    last = Member(RUNTIME_NAME, MemberKind.RUNTIME, 3, _Fixed().hexdigest())
    manifest = Manifest(name="big", members=(big, last))
    path = tmp_path / "big"
    with path.open("w+b") as file:
        file.write(STUB)
        writer = Writer(Holes(file), manifest)  # type: ignore[arg-type]
        writer.add("big.gguf", (_ZEROS for _ in range(num_chunks)))
        writer.add(RUNTIME_NAME, [b"pkg"])
        writer.close()
    if path.stat().st_blocks * 512 > 1 << 30:
        pytest.fail("the file has no holes: this file system is not fit for this test")
    monkeypatch.setattr("runtime.container.zlib.crc32", lambda data: 0)
    container = open_container(path)
    runtime = container.extent(RUNTIME_NAME)
    assert runtime.offset > 1 << 32
    assert runtime.offset % ALIGNMENT == 0
    assert read(runtime) == b"pkg"
    assert container.extent("big.gguf").size == big.size


class _Fixed:
    """A hash that takes no time."""

    def update(self, data: bytes) -> None:
        pass

    def hexdigest(self) -> str:
        return "0" * 64


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_bundle_is_called_truncated(bundle: Path, kept: float) -> None:
    data = bundle.read_bytes()
    bundle.write_bytes(data[: max(int(len(data) * kept), 3 * ALIGNMENT)])
    with pytest.raises(ContainerError, match="truncated"):
        open_container(bundle)
    with pytest.raises(ContainerError, match="truncated"):
        locate(bundle)


@pytest.mark.parametrize(
    "content",
    [b"", b"GGUF", STUB, bytes(3 * ALIGNMENT), b"PK\x03\x04", b"PK\x05\x06" + bytes(18)],
    ids=["empty", "model", "stub", "zeros", "cut-zip", "empty-zip"],
)
def test_what_is_no_bundle_is_called_that(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    assert locate(path) is None
    with pytest.raises(ContainerError, match="not a holdall bundle"):
        open_container(path)


def test_another_zip_is_no_bundle(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme", "hello")
    assert locate(tmp_path / "other.zip") is None


def test_python_itself_carries_no_container() -> None:
    assert locate(Path(sys.executable)) is None


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match="can't be read"):
        open_container(tmp_path / "none")


def test_bytes_put_before_a_bundle_are_noticed(bundle: Path) -> None:
    bundle.write_bytes(b"#!/bin/sh\n" + bundle.read_bytes())
    with pytest.raises(ContainerError, match="has been moved"):
        open_container(bundle)


def test_a_bundle_packed_anew_is_noticed(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(tmp_path / "new", "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    with pytest.raises(ContainerError, match="compressed"):
        open_container(tmp_path / "new")


def test_an_altered_manifest_is_noticed(bundle: Path) -> None:
    bundle.write_bytes(bundle.read_bytes().replace(b'"name": "tiny"', b'"name": "tony"'))
    with pytest.raises(ContainerError, match="altered"):
        open_container(bundle)


def test_a_newer_format_says_so(tmp_path: Path) -> None:
    write(tmp_path / "newer", {"m.gguf": MODEL}, format_version=FORMAT_VERSION + 1)
    with pytest.raises(ContainerError, match="newer holdall"):
        open_container(tmp_path / "newer")


@settings(max_examples=150)
@given(st.data())
def test_no_damage_to_the_directory_escapes_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    good = folder / "damage-good"
    if not good.exists():
        write(good, {"tiny.gguf": b"GGUF", RUNTIME_NAME: b"pkg"})
    content = bytearray(good.read_bytes())
    start = content.index(b"PK\x01\x02")
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(start, len(content) - 1))] = data.draw(st.integers(0, 255))
    bad = folder / "damage-bad"
    bad.write_bytes(content)
    try:
        container = open_container(bad)
    except ContainerError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert isinstance(container, Container)


def test_the_manifest_is_the_same_both_ways_and_ignores_what_it_does_not_know() -> None:
    manifest = Manifest("tiny", (member("ä.gguf", b"x"),), "words", {"n": 1}, {"temperature": 0.5}, "mit", "file:x")
    assert Manifest.from_json(manifest.to_json()) == manifest
    extended = manifest.to_json().replace(b'"name": "tiny"', b'"later": [], "name": "tiny"')
    assert Manifest.from_json(extended) == manifest


def test_a_manifest_keeps_the_face() -> None:
    face = Face("org.tiny", "data:image/png;base64,AA==", "Hello!", ("Why?", "ü"), "Be brief.")
    manifest = Manifest("tiny", (member("m.gguf", b"x"),), face=face)
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_a_manifest_from_before_there_were_faces_is_read() -> None:
    manifest = Manifest("tiny", (member("m.gguf", b"x"),))
    value = json.loads(manifest.to_json())
    del value["face"]
    assert Manifest.from_json(json.dumps(value).encode()) == manifest
    value["face"] = {"welcome": "Hello!", "later": 1}
    assert Manifest.from_json(json.dumps(value).encode()).face == Face(welcome="Hello!")


@pytest.mark.parametrize("face", [[], {"welcome": 1}, {"suggestions": "Why?"}, {"suggestions": [1]}], ids=repr)
def test_a_damaged_face_is_refused(face: object) -> None:
    value = json.loads(Manifest("tiny", (member("m.gguf", b"x"),)).to_json())
    with pytest.raises(ContainerError, match="altered"):
        Manifest.from_json(json.dumps({**value, "face": face}).encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"size": 1', b'"size": -1'),
        (b'"size": 1', b'"size": true'),
        (b'"kind": "model"', b'"kind": "secret"'),
        (b'"defaults": {}', b'"defaults": []'),
        (b'"name": "tiny"', b'"nome": "tiny"'),
        (b'"format_version": 1', b'"format_version": "1"'),
        (b"{", b"["),
        (b"m.gguf", b"\xff"),
        (b"m.gguf", MANIFEST_NAME.encode()),
    ],
    ids=repr,
)
def test_a_damaged_manifest_is_refused(old: bytes, new: bytes) -> None:
    good = Manifest("tiny", (member("m.gguf", b"x"),)).to_json()
    assert old in good
    with pytest.raises(ContainerError, match="altered"):
        Manifest.from_json(good.replace(old, new))


def test_two_members_of_one_name_are_refused() -> None:
    twice = Manifest("tiny", (member("m", b"x"), member("m", b"x"))).to_json()
    with pytest.raises(ContainerError, match="not unique"):
        Manifest.from_json(twice)


@pytest.mark.parametrize("arrived", [b"GGUF!", b"GGU", b"gguf"], ids=["longer", "shorter", "other"])
def test_a_member_that_changes_while_it_is_packed_is_refused(arrived: bytes) -> None:
    writer = Writer(io.BytesIO(), Manifest("tiny", (member("m.gguf", b"GGUF"),)))
    with pytest.raises(ContainerError, match=r"m\.gguf changed"):
        writer.add("m.gguf", [arrived])
    writer.abandon()


def test_members_come_in_the_manifests_order_and_all_of_them() -> None:
    writer = Writer(io.BytesIO(), Manifest("tiny", (member("a", b"a"), member("b", b"b"))))
    with pytest.raises(ValueError, match="next member"):
        writer.add("b", [b"b"])
    with pytest.raises(ValueError, match="never added"):
        writer.close()
    writer.abandon()


def test_sizes_that_differ_from_the_manifest_are_noticed(tmp_path: Path) -> None:
    manifest = Manifest("tiny", (member("m.gguf", MODEL),))
    lying = replace(manifest, members=(member("m.gguf", MODEL[:-1]),))
    path = tmp_path / "lying"
    with path.open("wb") as file:
        writer = Writer(file, manifest)
        writer._append("m.gguf", len(MODEL) - 1, [MODEL[:-1]])
        writer._expected.clear()
        writer.close()
    assert lying != manifest
    with pytest.raises(ContainerError, match=r"m\.gguf should have"):
        open_container(path)
