"""The real bundle, built once, and one process of it that most tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import browser, faults, page  # noqa: F401  # fixtures, used by name
from tests.e2e.bundle import Process, build


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default bundle, from the caches where they are filled."""
    out = tmp_path_factory.mktemp("dist") / "SmolLM2-135M-Instruct"
    built = build(out)
    assert built.returncode == 0, built.stderr
    return out


@pytest.fixture(scope="session")
def bundle_server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A headless process, ready to answer; -n, for this model now and then doesn't know when to stop."""
    process = Process(bundle, tmp_path_factory.mktemp("server"), "--server", "--nobrowser", "-n", "512")
    try:
        yield process.wait_until_ready()
    finally:
        process.kill_if_alive()


@pytest.fixture
def start(bundle: Path, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start processes of one's own; each is ended with the test."""
    started: list[Process] = []

    def start_one(*arguments: str, environment: dict[str, str] | None = None) -> Process:
        folder = tmp_path / str(len(started))
        process = Process(bundle, folder, *(arguments or ("--server", "--nobrowser")), environment=environment)
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.kill_if_alive()
