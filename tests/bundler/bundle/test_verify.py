from pathlib import Path

import pytest

from bundler.bundle import weld
from bundler.bundle.gguf import read_facts
from bundler.bundle.verify import verify
from bundler.errors import HashMismatch
from bundler.pack.pack import load_pack
from bundler.progress import Progress
from bundler.recipe import Recipe
from bundler.sources.fetch import fetch
from bundler.sources.model import Places
from runtime.container import RUNTIME_NAME, open_container
from runtime.errors import ContainerError


@pytest.fixture
def bundle(tmp_path: Path, model: Path, pack: Path, progress: Progress) -> Path:
    sourced = fetch(str(model), Places(), progress)
    weld.weld(weld.plan(Recipe(), load_pack(pack), sourced, read_facts(model)), tmp_path / "tiny", progress)
    return tmp_path / "tiny"


def flip_first_byte(bundle: Path, name: str) -> None:
    offset = open_container(bundle).extent(name).offset
    content = bytearray(bundle.read_bytes())
    content[offset] ^= 1
    bundle.write_bytes(content)


def test_a_good_bundle_passes(bundle: Path, progress: Progress) -> None:
    assert verify(bundle, progress).manifest.name == "Tiny-Instruct"


def test_one_changed_bit_of_the_runtime_is_found(bundle: Path, progress: Progress) -> None:
    flip_first_byte(bundle, RUNTIME_NAME)
    with pytest.raises(HashMismatch, match=r"runtime\.pkg"):
        verify(bundle, progress, skip_model=True)


def test_one_changed_bit_of_the_model_is_found_unless_it_is_skipped(bundle: Path, progress: Progress) -> None:
    flip_first_byte(bundle, "Tiny-Instruct.Q4_1.gguf")
    with pytest.raises(HashMismatch, match=r"Tiny-Instruct"):
        verify(bundle, progress)
    verify(bundle, progress, skip_model=True)


def test_a_truncated_bundle_is_refused(bundle: Path, progress: Progress) -> None:
    bundle.write_bytes(bundle.read_bytes()[:-1])
    with pytest.raises(ContainerError, match="truncated"):
        verify(bundle, progress)
