"""The page as a bundle carries it: small enough, and in every module and rule what its source is."""

import json
import subprocess
from pathlib import Path

import pytest

from bundler.pack.page import pack_page
from runtime.server.page.files import WEBCLIENT, page_endpoints
from tests.webclient.test_javascript import NODE

MAX_BYTES = 200_000
# node carries the parser acorn for itself. Positions and the raw text of what was quoted are left out.
TREES = """
const { parse } = require("internal/deps/acorn/acorn/dist/acorn");
const { readFileSync } = require("node:fs");
const unplaced = (key, value) => ["start", "end"].includes(key) ? undefined : value;
const files = process.argv.slice(2);
const trees = files.map((file) => {
  const tree = parse(readFileSync(file, "utf8"), { ecmaVersion: "latest", sourceType: "module" });
  return JSON.stringify(tree, unplaced);
});
console.log(JSON.stringify(trees));
"""


def trees(folder: Path, names: list[str], script: Path) -> dict[str, str]:
    """What node's parser makes of each module, as text."""
    script.write_text(TREES)
    command = [str(NODE), "--expose-internals", str(script), *(str(folder / name) for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(names, json.loads(done.stdout), strict=True))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    pack_page(WEBCLIENT, folder)
    return folder


def test_the_page_is_at_most_200_kb(packed: Path) -> None:
    assert sum(path.stat().st_size for path in packed.rglob("*") if path.is_file()) <= MAX_BYTES


def test_every_file_is_there_and_served_as_before(packed: Path) -> None:
    def names(folder: Path) -> list[str]:
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    assert names(packed) == names(WEBCLIENT)
    assert [path for path, _ in page_endpoints(packed)] == [path for path, _ in page_endpoints(WEBCLIENT)]


def test_every_module_says_what_its_source_says(packed: Path, tmp_path: Path) -> None:
    names = sorted(path.relative_to(WEBCLIENT).as_posix() for path in WEBCLIENT.rglob("*.js"))
    ours, theirs = (trees(folder, names, tmp_path / "trees.cjs") for folder in (packed, WEBCLIENT))
    assert [name for name in names if ours[name] != theirs[name]] == []


def test_a_module_that_would_be_changed_is_noticed(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "nested.js").write_text('export const text = `a ${true ? `b  "c"` : ""}`;\n')
    pack_page(source, target)
    ours, theirs = (trees(folder, ["nested.js"], tmp_path / "trees.cjs") for folder in (source, target))
    assert ours != theirs


def test_the_same_source_gives_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    pack_page(WEBCLIENT, tmp_path)
    for path in packed.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / path.relative_to(packed)).read_bytes()


def test_html_loses_its_indent_and_nothing_else(tmp_path: Path) -> None:
    pack_page(WEBCLIENT, tmp_path)
    source, packed = ((folder / "index.html").read_text() for folder in (WEBCLIENT, tmp_path))
    assert "\n " not in packed
    assert packed.split() == source.split()
    # Where white space is shown as it is written, an indent would be a loss.
    assert "<pre" not in source
