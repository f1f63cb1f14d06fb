"""What we change in llama.cpp's sources before they are compiled: `patches/*.patch` in the order of their names.

A patch is a unified diff of one idea. The text before its first `---` is for people; it says why, what the patch gains,
which test fails without it, and whether it was offered upstream.

A hunk fits where the lines that it keeps or takes away stand in the file exactly once. Line numbers don't count, so a
patch fits versions whose files are longer or shorter elsewhere, and it never changes a place that only looks alike.
Nothing is written when any hunk doesn't fit.

The kernels are whole files of ours that the patched sources include. This module knows neither where the sources come
from nor how they are compiled.
"""

import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import ToolchainError

PATCHES = Path(__file__).with_name("patches")

# Where in llama.cpp's folder each kernel goes.
_KERNELS = Path(__file__).with_name("kernels")
KERNELS = {
    "ggml/src/ggml-cpu/tiles.h": _KERNELS / "tiles.h",
    "ggml/src/ggml-cpu/attention.h": _KERNELS / "attention.h",
    "src/cells.h": _KERNELS / "cells.h",
    "src/words.h": _KERNELS / "words.h",
}

_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_BETWEEN_FILES = ("diff ", "index ")  # what git writes there


@dataclass(frozen=True, slots=True)
class Hunk:
    """In the file at `path`, relative to llama.cpp's folder, the whole lines `before` become `after`."""

    path: str
    before: str
    after: str

    def num_places(self, text: str) -> int:
        """Count the lines of a file at which `before` begins."""
        lines, start, count = f"\n{text}", -1, 0
        while (start := lines.find(f"\n{self.before}", start + 1)) >= 0:
            count += 1
        return count

    def made_in(self, text: str) -> str:
        """Return the file's text with the hunk made at its first place."""
        return f"\n{text}".replace(f"\n{self.before}", f"\n{self.after}", 1)[1:]


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch by the name of its file. The hunks are independent: none looks at lines that another adds."""

    name: str
    hunks: tuple[Hunk, ...]


@dataclass(frozen=True, slots=True)
class Misfit:
    """A hunk, counted from 1 in its file's part of the patch, that has no place or several; None: there is no file."""

    patch: str
    path: str
    hunk: int
    num_places: int | None

    def where(self) -> str:
        """Return the place and the reason, without the patch's name."""
        reasons = {None: "there is no such file", 0: "its lines are not there"}
        reason = reasons.get(self.num_places, f"its lines are there {self.num_places} times")
        return f"{self.path}, hunk {self.hunk}: {reason}"


def read_patches() -> list[Patch]:
    """Return all patches in the order in which they are made; ToolchainError when one can't be read."""
    return [parse(path.name, path.read_bytes().decode()) for path in sorted(PATCHES.glob("*.patch"))]


def parse(name: str, text: str) -> Patch:
    """Read a unified diff; ToolchainError when it is malformed or makes or removes whole files."""
    lines = deque(text.removesuffix("\n").split("\n"))
    path, hunks = "", list[Hunk]()
    while lines:
        line = lines.popleft()
        if line.startswith("--- ") and lines and lines[0].startswith("+++ b/"):
            path = lines.popleft().removeprefix("+++ b/").split("\t")[0]
        elif path and (counts := _HUNK.match(line)):
            before, after = _hunk_lines(name, lines, int(counts[1] or 1), int(counts[2] or 1))
            hunks.append(Hunk(path, before, after))
        elif path and not line.startswith(_BETWEEN_FILES):
            raise ToolchainError(f"{name}: this line belongs to no hunk; are the hunk's counts right? {line}")
    if not hunks:
        raise ToolchainError(f"{name}: has no hunk for a file +++ b/...")
    return Patch(name, tuple(hunks))


def _hunk_lines(name: str, lines: deque[str], num_before: int, num_after: int) -> tuple[str, str]:
    """Take a hunk's lines and return them as they are before and after; the counts are those of its `@@` line."""
    before, after = list[str](), list[str]()
    while lines and (len(before) < num_before or len(after) < num_after):
        line = lines.popleft() or " "  # editors strip the space of an empty line
        kind, kept = line[0], f"{line[1:]}\n"
        if kind not in " -+":
            raise ToolchainError(f"{name}: a hunk's lines begin with a space, - or +, not as this one: {line}")
        if kind != "+":
            before.append(kept)
        if kind != "-":
            after.append(kept)
    if (len(before), len(after)) != (num_before, num_after) or not before:
        raise ToolchainError(f"{name}: a hunk has other lines than its @@ says, or none to find its place by")
    return "".join(before), "".join(after)


def paths_of(patches: Iterable[Patch]) -> set[str]:
    """Return the files that patches change."""
    return {hunk.path for patch in patches for hunk in patch.hunks}


def fit(patches: Iterable[Patch], texts: Mapping[str, str]) -> tuple[dict[str, str], list[Misfit]]:
    """Return files' texts, by their paths, after all hunks that fit were made, and the hunks that don't."""
    made, misfits = dict(texts), list[Misfit]()
    for patch in patches:
        counted = Counter[str]()
        for hunk in patch.hunks:
            counted[hunk.path] += 1
            text = made.get(hunk.path)
            num_places = None if text is None else hunk.num_places(text)
            if text is not None and num_places == 1:
                made[hunk.path] = hunk.made_in(text)
            else:
                misfits.append(Misfit(patch.name, hunk.path, counted[hunk.path], num_places))
    return made, misfits


def identity() -> list[str]:
    """Return all that the patched sources depend on beside the sources, for a cache's key; words about it are not."""
    hunks = [text for patch in read_patches() for hunk in patch.hunks for text in (hunk.path, hunk.before, hunk.after)]
    return hunks + [text for path, file in KERNELS.items() for text in (path, file.read_text(encoding="utf-8"))]


def apply(sources: Path) -> None:
    """Patch llama.cpp's folder and lay the kernels into it.

    Raises ToolchainError, with all misfits, when the sources aren't what the patches were made for.
    """
    patches = read_patches()
    paths = [path for path in sorted(paths_of(patches)) if (sources / path).is_file()]
    made, misfits = fit(patches, {path: (sources / path).read_bytes().decode() for path in paths})
    if misfits:
        listed = "; ".join(f"{misfit.patch}: {misfit.where()}" for misfit in misfits)
        raise ToolchainError(f"llama.cpp has changed, look whether what doesn't fit is still needed: {listed}")
    for path, text in made.items():
        (sources / path).write_bytes(text.encode())
    for path, kernel in KERNELS.items():
        (sources / path).write_bytes(kernel.read_bytes())
