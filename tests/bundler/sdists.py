"""Source archives made up in tests."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path


def write_sdist(path: Path, files: Iterable[str] | Mapping[str, str]) -> Path:
    """Write an sdist of files with these texts, or with their own names as texts."""
    texts = files if isinstance(files, Mapping) else {name: name for name in files}
    with tarfile.open(path, "w:gz") as archive:
        for name, text in texts.items():
            member = tarfile.TarInfo(f"llama_cpp_python-0.0.0/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path
