import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from bundler import cache
from bundler.errors import ToolchainError
from bundler.llamacpp import patch
from bundler.llamacpp.patch import Hunk, Misfit, Patch, fit, parse
from bundler.llamacpp.sdist import SDIST_NAME, SDIST_SHA256, read_texts

CHECKOUT = Path(__file__).parents[3]
TEST = re.compile(r"^(?:Fails without it: )?(tests/[\w/]+\.py)::(\w+)$", re.MULTILINE)

DIFF = """\
Say why.

--- a/src/a.cpp
+++ b/src/a.cpp
@@ -10,3 +10,4 @@ a function
 one

-two
+2
+and more
@@ -90 +91 @@
--- eighty
+++ 80
diff --git a/src/b.cpp b/src/b.cpp
index 1..2 100644
--- a/src/b.cpp\t2026-01-01
+++ b/src/b.cpp\t2026-01-02
@@ -1,1 +1,0 @@
-gone
"""
HUNKS = (
    Hunk("src/a.cpp", "one\n\ntwo\n", "one\n\n2\nand more\n"),
    Hunk("src/a.cpp", "-- eighty\n", "++ 80\n"),
    Hunk("src/b.cpp", "gone\n", ""),
)


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """llama.cpp's folder, with two patches and a kernel for it."""
    kernel = tmp_path / "ours.h"
    kernel.write_text("// ours\n")
    monkeypatch.setattr(patch, "KERNELS", {"src/ours.h": kernel})
    monkeypatch.setattr(patch, "PATCHES", tmp_path / "patches")
    write_patches(tmp_path / "patches", {"020-b": ("src/b.cpp", "old", "new"), "010-a": ("src/a.cpp", "old", "older")})
    (tmp_path / "sources" / "src").mkdir(parents=True)
    for name in "ab":
        (tmp_path / "sources" / "src" / f"{name}.cpp").write_bytes(b"first\r\nold\nlast")
    return tmp_path / "sources"


def write_patches(folder: Path, replacements: Mapping[str, tuple[str, str, str]]) -> None:
    folder.mkdir(exist_ok=True)
    for name, (path, before, after) in replacements.items():
        (folder / f"{name}.patch").write_text(f"--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-{before}\n+{after}\n")


def test_a_diff_is_read_as_lines_before_and_after() -> None:
    assert parse("a.patch", DIFF) == Patch("a.patch", HUNKS)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-10,3 +10,4", "-10,2 +10,2", "belongs to no hunk; are the hunk's counts right"),
        ("-10,3 ", "-10,4 ", "a hunk's lines begin with a space, - or \\+, not as this one: @@"),
        ("-1,1 +1,0", "-1,2 +1,0", "other lines than its @@ says"),
        ("-two", "two", "not as this one: two"),
        ("-1,1 +1,0 @@\n-gone", "-0,0 +1,1 @@\n+new", "or none to find its place by"),
        ("+++ b/src/b.cpp\t2026-01-02", "+++ /dev/null", "belongs to no hunk"),
    ],
    ids=["fewer", "more", "more at the end", "no mark", "a new file", "a removed file"],
)
def test_a_malformed_diff_is_refused_by_name(old: str, new: str, message: str) -> None:
    assert DIFF.count(old) == 1
    with pytest.raises(ToolchainError, match=rf"^a\.patch: .*{message}"):
        parse("a.patch", DIFF.replace(old, new))


def test_words_alone_are_no_patch() -> None:
    with pytest.raises(ToolchainError, match=r"a\.patch: has no hunk"):
        parse("a.patch", "Say why.\n")


@pytest.mark.parametrize(
    ("text", "num_places"),
    [
        ("a\nb\n", 1),
        ("first\na\nb\nlast\n", 1),
        ("xa\nb\n", 0),  # whole lines only
        ("a\nbx\n", 0),
        ("a\nc\nb\n", 0),
        ("a\nb\na\nb\n", 2),
    ],
)
def test_a_hunk_has_its_place_where_its_lines_stand(text: str, num_places: int) -> None:
    assert Hunk("f", "a\nb\n", "c\n").num_places(text) == num_places


def test_places_that_overlap_are_several() -> None:
    assert Hunk("f", "a\na\n", "c\n").num_places("a\na\na\n") == 2


@pytest.mark.parametrize(
    ("text", "made"), [("a\nb\nc\n", "c\nc\n"), ("xa\nb\na\nb\nlast", "xa\nb\nc\nlast")], ids=["first", "middle"]
)
def test_a_hunk_is_made_at_its_place(text: str, made: str) -> None:
    assert Hunk("f", "a\nb\n", "c\n").made_in(text) == made


def test_all_misfits_are_found_and_what_fits_is_made() -> None:
    text = "one\n\ntwo\n-- eighty\n-- eighty\n"
    made, misfits = fit([Patch("a", HUNKS), Patch("b", HUNKS[:1])], {"src/a.cpp": text})
    assert made == {"src/a.cpp": "one\n\n2\nand more\n-- eighty\n-- eighty\n"}
    assert misfits == [
        Misfit("a", "src/a.cpp", 2, 2),
        Misfit("a", "src/b.cpp", 1, None),
        Misfit("b", "src/a.cpp", 1, 0),
    ]


def test_patches_are_made_in_the_order_of_their_names(sources: Path, tmp_path: Path) -> None:
    write_patches(tmp_path / "patches", {"030-c": ("src/a.cpp", "older", "oldest")})
    patch.apply(sources)
    assert (sources / "src/a.cpp").read_bytes() == b"first\r\noldest\nlast"
    assert (sources / "src/b.cpp").read_bytes() == b"first\r\nnew\nlast"
    assert (sources / "src/ours.h").read_text() == "// ours\n"


def test_one_error_names_all_misfits_and_nothing_is_written(sources: Path, tmp_path: Path) -> None:
    write_patches(tmp_path / "patches", {"030-c": ("src/b.cpp", "older", "x"), "040-d": ("src/d.cpp", "older", "x")})
    (sources / "src/a.cpp").write_text("old\nold\n")
    before = {path: path.read_bytes() for path in sources.rglob("*.*")}
    with pytest.raises(ToolchainError) as caught:
        patch.apply(sources)
    assert str(caught.value).split(": ", 1)[1].split("; ") == [
        "010-a.patch: src/a.cpp, hunk 1: its lines are there 2 times",
        "030-c.patch: src/b.cpp, hunk 1: its lines are not there",
        "040-d.patch: src/d.cpp, hunk 1: there is no such file",
    ]
    assert {path: path.read_bytes() for path in sources.rglob("*.*")} == before


@pytest.mark.parametrize("path", sorted(patch.PATCHES.glob("*.patch")), ids=lambda path: path.stem)
def test_a_patch_says_why_and_names_tests_that_there_are(path: Path) -> None:
    words = path.read_text().split("\n--- ")[0]
    fields = [line.split(":")[0] for line in words.splitlines() if re.match(r"[A-Z][\w ]+:(?: |$)", line)]
    assert fields == ["Why", "Gain", "Fails without it", "Upstream"]
    named = TEST.findall(words)
    assert named
    for file, test in named:
        assert f"\ndef {test}(" in (CHECKOUT / file).read_text()


@pytest.fixture(scope="module")
def pinned() -> dict[str, str]:
    """The files of the pinned sdist that patches change. Made before a test gets a cache of its own."""
    archive = cache.root() / "sdist" / SDIST_SHA256[:16] / SDIST_NAME
    if not archive.is_file():
        pytest.skip("the pinned sdist isn't in the cache; python3 build.py test builds the libraries from it")
    return read_texts(archive, patch.paths_of(patch.read_patches()))


def test_all_patches_fit_the_pinned_sources(pinned: dict[str, str]) -> None:
    made, misfits = fit(patch.read_patches(), pinned)
    assert misfits == []
    assert all(made[path] != pinned[path] for path in pinned)


def test_the_order_of_patches_makes_no_difference(pinned: dict[str, str]) -> None:
    """So one that doesn't fit makes no other one a misfit."""
    patches = patch.read_patches()
    assert fit(reversed(patches), pinned) == fit(patches, pinned)
