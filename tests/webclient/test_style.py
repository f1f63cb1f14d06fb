"""The page's JavaScript and that of its tests is written alike, and without what Biome warns of."""

import subprocess
from pathlib import Path

import pytest

from tests.webclient.npm import installed
from tests.webclient.test_javascript import NODE

BIOME = "@biomejs/biome@2.6.8"
HERE = Path(__file__).parent
CONFIG = HERE / "javascript.jsonc"
WEBCLIENT = HERE.parent.parent / "webclient"
MAX_WIDTH = 140  # the formatter's, which it doesn't hold where a text or a pattern is longer


@pytest.fixture(scope="module")
def biome() -> Path:
    return installed(BIOME) / "@biomejs" / "biome" / "bin" / "biome"


def check(biome: Path, *folders: Path) -> subprocess.CompletedProcess[str]:
    """Find what is written otherwise, and what is doubtful; change nothing."""
    command = [str(NODE), str(biome), "check", "--error-on-warnings", f"--config-path={CONFIG}", *map(str, folders)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def long_lines(*folders: Path) -> list[str]:
    return [
        f"{path}:{number}"
        for folder in folders
        for path in sorted(folder.rglob("*.js"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if len(line) > MAX_WIDTH
    ]


def test_the_pages_scripts_and_their_tests_are_clean(biome: Path) -> None:
    done = check(biome, WEBCLIENT, HERE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert long_lines(WEBCLIENT, HERE) == []


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("export const a = 'single';\n", "format"),
        ("export function f(a) {\n  return (a = 1);\n}\n", "noAssignInExpressions"),
        ("const unused = 1;\n", "noUnusedVariables"),
        ("export const = 1;\n", "parse"),
    ],
    ids=["another style", "doubtful", "unused", "broken"],
)
def test_what_is_written_otherwise_is_found(biome: Path, tmp_path: Path, source: str, finding: str) -> None:
    (tmp_path / "module.js").write_text(source)
    done = check(biome, tmp_path)
    assert done.returncode != 0
    assert finding in done.stdout + done.stderr


def test_a_line_that_is_too_long_is_found(tmp_path: Path) -> None:
    (tmp_path / "module.js").write_text("x" * MAX_WIDTH + "\n" + "x" * (MAX_WIDTH + 1) + "\n")
    assert long_lines(tmp_path) == [f"{tmp_path / 'module.js'}:2"]
