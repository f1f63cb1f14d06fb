import hashlib
from pathlib import Path

import pytest
from huggingface_hub.hf_api import RepoSibling

from bundler.errors import HashMismatch, RecipeError, SourceError
from bundler.progress import Progress
from bundler.sources.fetch import fetch
from bundler.sources.hub import choose_file
from bundler.sources.model import Places
from tests.bundler.http_server import closed_port_url
from tests.bundler.hub_server import HubServer, Repository

REPO = "owner/Tiny-GGUF"
MODEL = b"GGUF" + bytes(range(256)) * 1000


@pytest.fixture
def places(hub: HubServer) -> Places:
    hub.repositories[REPO] = Repository({"README.md": b"hello", "tiny-Q4_K_M.gguf": MODEL, "tiny-Q8_0.gguf": b"GGUF8"})
    return Places(hub=hub.url)


def kept(tmp_path: Path) -> list[bytes]:
    """The contents of all blobs in the hub's cache."""
    return [path.read_bytes() for path in (tmp_path / "hub").rglob("blobs/*") if path.is_file()]


def downloads(hub: HubServer) -> list[str]:
    """The Range of each download."""
    return [h.get("Range", "all") for method, path, h in hub.requests if method == "GET" and "/content/" in path]


def test_the_preferred_quantization_arrives_checked(hub: HubServer, places: Places, progress: Progress) -> None:
    sourced = fetch(f"hf:{REPO}", places, progress)
    assert sourced.path.read_bytes() == MODEL
    assert sourced.file_name == "tiny-Q4_K_M.gguf"
    assert sourced.sha256 == hashlib.sha256(MODEL).hexdigest()
    assert sourced.origin == f"hf:{REPO}/tiny-Q4_K_M.gguf"
    assert sourced.license == "mit"


@pytest.mark.parametrize("what", [":Q8_0", ":q8_0", "/tiny-Q8_0.gguf"])
def test_a_quantization_or_a_file_can_be_named(places: Places, progress: Progress, what: str) -> None:
    assert fetch(f"hf:{REPO}{what}", places, progress).path.read_bytes() == b"GGUF8"


def test_a_second_time_nothing_is_downloaded(hub: HubServer, places: Places, progress: Progress) -> None:
    for _ in range(2):
        fetch(f"hf:{REPO}", places, progress)
    assert downloads(hub) == ["all"]


def test_a_connection_cut_in_the_middle_is_taken_up_where_it_broke(
    hub: HubServer, places: Places, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What huggingface_hub keeps of a broken transfer is whole pieces, normally of 10 MB.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.cuts = [100_000]
    assert fetch(f"hf:{REPO}", places, progress).path.read_bytes() == MODEL
    first, second = downloads(hub)
    assert first == "all"
    assert second.startswith("bytes=")
    assert 0 < int(second.removeprefix("bytes=").rstrip("-")) <= 100_000


def test_wrong_bytes_are_refused_and_not_kept(
    hub: HubServer, places: Places, progress: Progress, tmp_path: Path
) -> None:
    sha256 = hashlib.sha256(MODEL).hexdigest()
    hub.lies[sha256] = MODEL[:-1] + b"?"
    with pytest.raises(HashMismatch, match=f"expected {sha256}"):
        fetch(f"hf:{REPO}", places, progress)
    assert kept(tmp_path) == []
    hub.lies.clear()
    assert fetch(f"hf:{REPO}", places, progress).sha256 == sha256


def test_a_repository_in_xet_storage_arrives_over_plain_http(
    hub: HubServer, places: Places, progress: Progress
) -> None:
    hub.repositories[REPO].is_in_xet = True
    assert fetch(f"hf:{REPO}", places, progress).path.read_bytes() == MODEL
    assert not [path for _, path, _ in hub.requests if "xet" in path]


def test_a_gated_model_needs_its_terms_accepted(
    hub: HubServer, places: Places, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[REPO].is_gated = True
    with pytest.raises(SourceError, match=f"gated; accept its terms at {hub.url}/{REPO}"):
        fetch(f"hf:{REPO}", places, progress)
    monkeypatch.setenv("HF_TOKEN", "hf_accepted")
    assert fetch(f"hf:{REPO}", places, progress).path.read_bytes() == MODEL


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("/tiny-Q2_K.gguf", "has no tiny-Q2_K.gguf; it has tiny-Q4_K_M.gguf, tiny-Q8_0.gguf"),
        (":Q2_K", "has no Q2_K; it has tiny-Q4_K_M.gguf, tiny-Q8_0.gguf"),
        (":Q4_K", "has no Q4_K; it has"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(places: Places, progress: Progress, what: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        fetch(f"hf:{REPO}{what}", places, progress)


def test_an_unknown_repository_is_one_line(places: Places, progress: Progress) -> None:
    with pytest.raises(SourceError, match="no such repository") as caught:
        fetch("hf:owner/other", places, progress)
    assert len(str(caught.value).splitlines()) == 1


def test_an_unreachable_hub_is_one_line(hub: HubServer, progress: Progress) -> None:
    with pytest.raises(SourceError, match="can't be reached"):
        fetch(f"hf:{REPO}", Places(hub=closed_port_url()), progress)


def test_a_broken_hub_is_one_line(hub: HubServer, places: Places, progress: Progress) -> None:
    hub.broken_status = 500
    with pytest.raises(SourceError, match="answered with status 500") as caught:
        fetch(f"hf:{REPO}", places, progress)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("reference", ["hf:", "hf:owner", "hf:owner/repo:", "hf:owner/repo/readme.md", "hf:a/b/../c"])
def test_a_reference_that_is_none_is_refused(reference: str, progress: Progress) -> None:
    with pytest.raises(RecipeError, match="should be hf:OWNER/REPO"):
        fetch(reference, Places(), progress)


def siblings(*names: str) -> list[RepoSibling]:
    return [RepoSibling(rfilename=name) for name in names]


@pytest.mark.parametrize(
    ("names", "quantization", "chosen"),
    [
        (["m-Q4_0.gguf", "m-Q4_K_M.gguf"], None, "m-Q4_K_M.gguf"),
        (["m-Q8_0.gguf", "m-Q4_0.gguf"], None, "m-Q4_0.gguf"),
        (["m-f16.gguf"], None, "m-f16.gguf"),
        (["mmproj-m-Q8_0.gguf", "m-Q8_0.gguf", "imatrix.gguf"], "Q8_0", "m-Q8_0.gguf"),
        (["Q2_K/m.gguf", "Q4_0/m.gguf"], "q2_k", "Q2_K/m.gguf"),
        (["m-IQ4_0.gguf", "m-Q4_0.gguf"], "Q4_0", "m-Q4_0.gguf"),
    ],
)
def test_the_file_is_chosen_by_its_quantization(names: list[str], quantization: str | None, chosen: str) -> None:
    assert choose_file(REPO, siblings(*names), quantization, None).rfilename == chosen


@pytest.mark.parametrize(
    ("names", "quantization", "chosen"),
    [
        (["m-Q8_0.gguf", "mmproj-m-f16.gguf"], None, "mmproj-m-f16.gguf"),
        (["mmproj-m-f16.gguf", "mmproj-m-Q8_0.gguf"], None, "mmproj-m-Q8_0.gguf"),
        (["mmproj-m-f16.gguf", "mmproj-m-Q8_0.gguf"], "f16", "mmproj-m-f16.gguf"),
    ],
)
def test_of_a_models_repository_the_projector_is_chosen(
    names: list[str], quantization: str | None, chosen: str
) -> None:
    assert choose_file(REPO, siblings(*names), quantization, None, is_projector=True).rfilename == chosen


def test_a_repository_without_a_projector_is_refused() -> None:
    with pytest.raises(SourceError, match=r"has no projector; those are named mmproj-\*.gguf"):
        choose_file(REPO, siblings("m-Q8_0.gguf"), None, None, is_projector=True)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["model.safetensors"], "has no GGUF models"),
        (["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"], "could be a-Q4_K_M.gguf, b-Q4_K_M.gguf"),
        (["m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf"], "split into 2 files"),
        ([f"{n}.gguf" for n in range(30)], "and 10 more"),
    ],
    ids=["none", "two", "split", "many"],
)
def test_a_repository_that_leaves_no_one_choice_is_refused(names: list[str], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        choose_file(REPO, siblings(*names), None, None)
