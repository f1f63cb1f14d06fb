import errno
import hashlib
import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler.bundle import weld
from bundler.bundle.gguf import read_facts
from bundler.bundle.inspection import describe
from bundler.bundle.weld import Weldment
from bundler.errors import SourceError, TargetError
from bundler.pack.pack import load_pack
from bundler.progress import Progress
from bundler.recipe import Recipe
from bundler.sources.fetch import fetch
from bundler.sources.model import Places
from runtime.container import MemberKind, open_container
from runtime.errors import ContainerError


@pytest.fixture
def weldment(model: Path, pack: Path, progress: Progress) -> Weldment:
    sourced = fetch(str(model), Places(), progress)
    return weld.plan(Recipe(args=("-c", "512")), load_pack(pack), sourced, read_facts(model))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "tiny"


def test_a_bundle_holds_the_stub_the_model_and_the_runtime(
    weldment: Weldment, target: Path, model: Path, pack: Path, progress: Progress
) -> None:
    weld.weld(weldment, target, progress)
    data = target.read_bytes()
    assert data.startswith((pack / "stub").read_bytes())
    container = open_container(target)
    assert [member.name for member in container.manifest.members] == [
        ".args", "Tiny-Instruct.Q4_1.gguf", "LICENSES/python.txt", "runtime.pkg",
    ]  # fmt: skip
    extent = container.model()
    assert extent is not None
    assert data[extent.offset :][: extent.size] == model.read_bytes()
    assert container.args() == ["-c", "512"]
    assert target.stat().st_mode & 0o777 == 0o755
    assert os.listdir(target.parent) == ["tiny"]  # noqa: PTH208 (names are what is asked)
    assert len(data) <= weldment.size_bound()


def test_the_manifest_says_what_was_packed(weldment: Weldment, model: Path) -> None:
    manifest = weldment.manifest
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    assert (manifest.name, manifest.license, manifest.platform) == ("Tiny-Instruct", "mit", "elsewhere-x86_64")
    assert manifest.source == "file:Tiny-Instruct.Q4_1.gguf"
    assert manifest.model["sha256"] == sha256
    assert manifest.model["quantization"] == "Q4_1"
    assert manifest.model["chat_template"] is True
    assert [m.sha256 for m in manifest.members if m.kind is MemberKind.MODEL] == [sha256]


def test_two_builds_give_the_same_bytes(weldment: Weldment, target: Path, progress: Progress) -> None:
    weld.weld(weldment, target, progress)
    first = target.read_bytes()
    weld.weld(weldment, target, progress)
    assert target.read_bytes() == first


def test_companions_of_the_model_are_members_of_their_kind(
    model: Path, pack: Path, progress: Progress, target: Path
) -> None:
    sourced = fetch(str(model), Places(), progress)
    projector = replace(sourced, file_name="mmproj-Tiny.gguf")
    companions = [(MemberKind.DRAFT, sourced), (MemberKind.LORA, sourced), (MemberKind.PROJECTOR, projector)]
    plan = weld.plan(Recipe(), load_pack(pack), sourced, read_facts(model), companions, ["pictures", "sounds"])
    weld.weld(plan, target, progress)
    container = open_container(target)
    assert "reads besides text  pictures, sounds" in describe(container)
    for kind in (MemberKind.MODEL, MemberKind.DRAFT, MemberKind.LORA, MemberKind.PROJECTOR):
        (extent,) = container.extents_of(kind)
        assert target.read_bytes()[extent.offset :][: extent.size] == model.read_bytes()
    assert container.extent("draft-Tiny-Instruct.Q4_1.gguf") == container.extents_of(MemberKind.DRAFT)[0]
    assert container.extent("mmproj-Tiny.gguf") == container.extents_of(MemberKind.PROJECTOR)[0]


def test_missing_folders_are_made(weldment: Weldment, target: Path, progress: Progress) -> None:
    weld.weld(weldment, target.parent / "new" / "er" / "tiny", progress)
    assert (target.parent / "new" / "er" / "tiny").exists()


def fails_after(num_bytes: int, error: BaseException) -> Any:
    """A way of writing that raises after so many bytes."""
    left = [num_bytes]

    def write(weldment: Weldment, out: Any, counter: Any) -> None:
        class Full(io.RawIOBase):
            def write(self, data: Any) -> int:
                left[0] -= len(data)
                if left[0] < 0:
                    raise error
                return int(out.write(data))

            def __getattr__(self, name: str) -> Any:
                return getattr(out, name)

            def seek(self, *where: int) -> int:
                return int(out.seek(*where))

            def tell(self) -> int:
                return int(out.tell())

        _write(weldment, Full(), counter)  # type: ignore[arg-type]

    return write


_write = weld.write


@pytest.mark.parametrize("num_bytes", [0, 5000, 20_000])
@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), TargetError),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), TargetError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=["full", "quota", "ctrl-c"],
)
def test_a_failure_in_the_middle_leaves_the_old_bundle_and_nothing_else(
    weldment: Weldment,
    target: Path,
    progress: Progress,
    monkeypatch: pytest.MonkeyPatch,
    num_bytes: int,
    raised: BaseException,
    expected: type[BaseException],
) -> None:
    target.write_bytes(b"the old one")
    monkeypatch.setattr(weld, "write", fails_after(num_bytes, raised))
    with pytest.raises(expected):
        weld.weld(weldment, target, progress)
    assert [path.name for path in target.parent.iterdir()] == ["tiny"]
    assert target.read_bytes() == b"the old one"
    with pytest.raises(expected):
        weld.weld(weldment, target.parent / "a" / "b" / "new", progress)
    assert not (target.parent / "a").exists()


def test_a_disk_without_room_is_noticed_before_writing(
    weldment: Weldment, target: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = weld.shutil.disk_usage(target.parent)
    monkeypatch.setattr(weld.shutil, "disk_usage", lambda _: usage._replace(free=weldment.size_bound() - 1))
    with pytest.raises(TargetError, match="MB free"):
        weld.weld(weldment, target, progress)
    assert not list(target.parent.iterdir())


def test_a_model_that_changes_after_hashing_is_refused(
    weldment: Weldment, target: Path, model: Path, progress: Progress
) -> None:
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    with pytest.raises(ContainerError, match="changed while it was being packed"):
        weld.weld(weldment, target, progress)
    assert not list(target.parent.iterdir())


def test_a_model_that_vanishes_is_its_own_fault_and_not_the_targets(
    weldment: Weldment, target: Path, model: Path, progress: Progress
) -> None:
    model.unlink()
    with pytest.raises(SourceError, match=r"Tiny-Instruct\.Q4_1\.gguf: can't be read"):
        weld.weld(weldment, target, progress)
    assert not list(target.parent.iterdir())


def test_a_directory_is_no_target(target: Path) -> None:
    with pytest.raises(TargetError, match="is a directory"):
        weld.check_target(target.parent)


def test_a_file_is_no_folder_for_a_target(target: Path) -> None:
    target.write_bytes(b"")
    with pytest.raises(TargetError, match="not a directory"):
        weld.check_target(target / "tiny")


def test_a_bundle_never_replaces_its_own_model(weldment: Weldment, model: Path, progress: Progress) -> None:
    before = model.read_bytes()
    with pytest.raises(TargetError, match="is what the bundle is made from"):
        weld.weld(weldment, model, progress)
    assert model.read_bytes() == before
