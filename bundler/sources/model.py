"""A model that a source gave, the places where sources look, and the hash that both go by.

It knows no source.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import SourceError
from bundler.progress import Progress

_CHUNK_BYTES = 4 << 20  # large enough that the copy is bound by hashing, not by calls


@dataclass(frozen=True)
class SourcedModel:
    """A model on this machine. `origin` is the reference it came by; `license` an SPDX name where the source says."""

    path: Path
    file_name: str
    size: int
    sha256: str
    origin: str
    license_text: str | None = None
    license: str = ""


@dataclass(frozen=True)
class Places:
    """Where to look. `hub` and `hub_cache` None are huggingface_hub's own."""

    index: str = "https://pypi.org/simple/"
    hub: str | None = None
    hub_cache: Path | None = None


def places_from(environment: Mapping[str, str]) -> Places:
    """Read PIP_INDEX_URL and HF_ENDPOINT; unset and empty mean the same."""
    return Places(
        index=environment.get("PIP_INDEX_URL") or Places.index,
        hub=environment.get("HF_ENDPOINT") or None,
    )


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes in large pieces; SourceError when it can't be read."""
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise SourceError(f"{path}: can't be read ({error.strerror or error})") from error


def hash_file(path: Path, progress: Progress) -> tuple[int, str]:
    """Return a file's size and sha256."""
    digest = hashlib.sha256()
    size = 0
    try:
        total = path.stat().st_size
    except OSError as error:
        raise SourceError(f"{path}: can't be read ({error.strerror or error})") from error
    with progress.bytes(f"hashing {path.name}", total) as counter:
        for chunk in read_chunks(path):
            digest.update(chunk)
            size += len(chunk)
            counter.advance(len(chunk))
    return size, digest.hexdigest()
