"""The page's own tests, run by the node that Playwright's wheel carries, so that none need be installed."""

import subprocess
from pathlib import Path

import playwright
import pytest

NODE = Path(playwright.__file__).parent / "driver" / "node"
TESTS = sorted(Path(__file__).parent.rglob("*.test.js"))


def run_node(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [str(NODE), "--test", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.name)
def test_the_pages_modules_pass_their_own_tests(file: Path) -> None:
    done = run_node(file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_such_tests() -> None:
    assert TESTS


def test_a_failing_javascript_test_is_noticed(tmp_path: Path) -> None:
    broken = tmp_path / "broken.test.js"
    broken.write_text('require("node:test")("breaks", () => { throw new Error("as it should") });\n')
    assert run_node(broken).returncode != 0
