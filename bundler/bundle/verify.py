"""Reopens a finished bundle and checks that it is what its manifest says.

Opening already checks the directory, alignment and sizes (runtime/container.py); here the bytes are read.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from bundler.errors import HashMismatch
from bundler.progress import Progress
from runtime.container import Container, MemberKind, open_container
from runtime.errors import ContainerError
from runtime.extent import Extent

_CHUNK_BYTES = 4 << 20


def verify(path: Path, progress: Progress, *, skip_model: bool = False) -> Container:
    """Open a bundle and hash its members; ContainerError for a broken one, HashMismatch for an altered member.

    skip_model leaves out the one read that takes long, for a bundle that was hashed while it was written.
    """
    container = open_container(path)
    members = [m for m in container.manifest.members if not (skip_model and m.kind is MemberKind.MODEL)]
    with progress.bytes(f"verifying {path.name}", sum(member.size for member in members)) as counter:
        for member in members:
            digest = hashlib.sha256()
            for chunk in _read(container.extent(member.name)):
                digest.update(chunk)
                counter.advance(len(chunk))
            if digest.hexdigest() != member.sha256:
                raise HashMismatch(f"{path}: {member.name}", member.sha256, digest.hexdigest())
    return container


def _read(extent: Extent) -> Iterator[bytes]:
    try:
        with extent.path.open("rb", buffering=0) as file:
            file.seek(extent.offset)
            left = extent.size
            while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk
    except OSError as error:
        raise ContainerError(f"{extent.path}: can't be read ({error.strerror or error})") from error
