import threading
from pathlib import Path

import pytest

from bundler import cache as caching
from bundler.errors import ToolchainError


def test_an_entry_is_made_once(cache: Path) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "result").write_text("slow")

    first, second = caching.entry("kind", "key", make), caching.entry("kind", "key", make)
    assert first == second == cache / "kind" / "key"
    assert (first / "result").read_text() == "slow"
    assert len(made) == 1


def test_a_failed_entry_leaves_nothing_and_can_be_made_again(cache: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("made")
        raise ToolchainError("broken")

    with pytest.raises(ToolchainError, match="broken"):
        caching.entry("kind", "key", fail)
    assert [path.name for path in (cache / "kind").iterdir() if path.suffix != ".lock"] == []
    assert list(caching.entry("kind", "key", lambda folder: None).iterdir()) == []


def test_two_builds_at_once_make_an_entry_once() -> None:
    begun, go_on = threading.Event(), threading.Event()
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        begun.set()
        assert go_on.wait(10)

    threads = [threading.Thread(target=caching.entry, args=("kind", "key", make)) for _ in range(2)]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert len(made) == 1


def test_a_cache_that_cannot_be_written_is_named(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(ToolchainError, match="can't write the cache folder"):
        caching.entry("kind", "key", lambda folder: None)


def test_keys_tell_where_one_input_ends() -> None:
    assert caching.key_of("ab", "c") != caching.key_of("a", "bc")
    assert caching.key_of("ab", "c") == caching.key_of(b"ab", "c")
