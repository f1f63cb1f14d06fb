"""The finished file, looked at from outside."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.bundle import build

MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MODEL_BYTES = 98_362_432


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
        return digest.hexdigest()


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_unzip_finds_no_fault_and_takes_the_model_out(bundle: Path, tmp_path: Path) -> None:
    tested = subprocess.run(["unzip", "-t", str(bundle)], capture_output=True, text=True, timeout=120, check=False)
    assert tested.returncode == 0, tested.stdout
    command = ["unzip", "-q", str(bundle), "*.gguf", "-d", str(tmp_path)]
    subprocess.run(command, timeout=120, check=True)
    (model,) = tmp_path.glob("*.gguf")
    assert sha256(model) == MODEL_SHA256


def test_pythons_zipfile_lists_it(bundle: Path) -> None:
    command = [sys.executable, "-m", "zipfile", "-l", str(bundle)]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "holdall.json" in listed
    assert ".gguf" in listed


def test_it_is_little_larger_than_its_model(bundle: Path) -> None:
    assert bundle.stat().st_size - MODEL_BYTES < 30_000_000


def test_building_twice_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    again = tmp_path / bundle.name
    assert build(again).returncode == 0
    assert sha256(again) == sha256(bundle)


def test_a_build_with_another_model_chats_too(stories260k: Path, tmp_path: Path) -> None:
    built = build(tmp_path / "stories", str(stories260k))
    assert built.returncode == 0, built.stderr
    command = [str(tmp_path / "stories"), "--version"]
    assert "stories260K" in subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
