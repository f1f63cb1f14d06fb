"""A few hundred models that nobody would write, through the program and the bundler: none ends or stalls a server."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests import gguf_mutants

ROOT = Path(__file__).parents[3]
TIMEOUT_SECONDS = 1800


@pytest.mark.skipif(sys.platform != "linux", reason="the mutants are tried in forks")
@pytest.mark.parametrize(
    ("through", "count"),
    [
        ("runtime", 150),
        ("build", 100),
        pytest.param("runtime", 5000, marks=pytest.mark.fuzz),
        pytest.param("build", 5000, marks=pytest.mark.fuzz),
    ],
)
def test_no_mutant_ends_or_stalls_the_server(stories260k: Path, through: str, count: int) -> None:
    command = [sys.executable, str(ROOT / "tests" / "mutants.py"), "--through", through, "--count", str(count)]
    ended = subprocess.run(
        [*command, "--model", str(stories260k)], capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    counts = ast.literal_eval(ended.stdout.splitlines()[-1].partition(": ")[2])
    assert sum(counts.values()) == count
    assert min(counts["served"], counts["refused"], counts["refused: the child ended"]) > 0


def test_what_is_not_changed_is_written_as_it_was(stories260k: Path) -> None:
    good = stories260k.read_bytes()
    assert gguf_mutants.write(gguf_mutants.parse(good)) == good


def test_a_mutant_is_known_by_its_seed_and_number(stories260k: Path) -> None:
    good = [stories260k.read_bytes()]
    first = [gguf_mutants.mutant(good, 1, number) for number in range(20)]
    assert first == [gguf_mutants.mutant(good, 1, number) for number in range(20)]
    assert len({data for data, _changed in first}) > 15
