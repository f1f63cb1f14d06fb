import hashlib
import os
from pathlib import Path

import pytest

from bundler.errors import RecipeError, SourceError
from bundler.progress import Progress
from bundler.sources.fetch import fetch
from bundler.sources.model import Places


def test_a_file_is_hashed_where_it_lies(model: Path, progress: Progress) -> None:
    sourced = fetch(str(model), Places(), progress)
    assert sourced.path == model
    assert sourced.size == model.stat().st_size
    assert sourced.sha256 == hashlib.sha256(model.read_bytes()).hexdigest()


def test_the_origin_does_not_tell_where_on_the_disk_it_was(model: Path, progress: Progress) -> None:
    assert fetch(str(model), Places(), progress).origin == "file:Tiny-Instruct.Q4_1.gguf"


def test_what_is_not_a_file_is_refused(tmp_path: Path, progress: Progress) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, message in [("none.gguf", "no such file"), ("", "is a directory"), ("pipe", "not a regular file")]:
        with pytest.raises(SourceError, match=message):
            fetch(str(tmp_path / name), Places(), progress)


def test_an_address_is_refused(progress: Progress) -> None:
    with pytest.raises(RecipeError, match="addresses can't be used"):
        fetch("https://example.org/m.gguf", Places(), progress)
