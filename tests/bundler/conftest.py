import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.progress import Progress
from tests.bundler.http_server import running
from tests.bundler.hub_server import HubServer
from tests.bundler.index_server import IndexServer
from tests.bundler.models import write_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees this machine's caches, tokens or mirrors."""
    for name in ("HF_TOKEN", "HF_ENDPOINT", "PIP_INDEX_URL", "SOURCE_DATE_EPOCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOLDALL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def progress() -> Progress:
    return Progress(io.StringIO(), is_quiet=True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "Tiny-Instruct.Q4_1.gguf")


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A runtime pack that can be welded, if not run: it says that it is for another system."""
    folder = tmp_path / "pack"
    (folder / "LICENSES").mkdir(parents=True)
    (folder / "stub").write_bytes(b"\x7fELF" + b"stub" * 1000)
    (folder / "runtime.pkg").write_bytes(b"pkg" * 5000 + b"MEI\014\013\012\013\016")
    (folder / "pack.json").write_text(json.dumps({"platform": "elsewhere-x86_64", "tool_version": "9.9"}))
    (folder / "LICENSES" / "python.txt").write_text("PSF\n")
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    server = HubServer()
    with running(server):
        yield server


@pytest.fixture
def index() -> Iterator[IndexServer]:
    server = IndexServer()
    with running(server):
        yield server
