"""A server whose answers are what clients stumble over."""

from collections.abc import Iterator

import pytest

from tests.clients.awkward import PIECES
from tests.fakes import ScriptedEngine
from tests.serving import make_app, serving_from_a_thread


@pytest.fixture(scope="session")
def awkward_server() -> Iterator[str]:
    with serving_from_a_thread(make_app(ScriptedEngine(PIECES))) as address:
        yield address
