"""What the engine's tests share: a real model, so small that it is loaded anew for each of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.engine.guidance import compiler
from runtime.engine.native import Library, Model
from runtime.nursery import Nursery


@pytest.fixture(scope="module")
def stories(stories260k: Path) -> Iterator[Model]:
    model = Model(Library(), stories260k)
    yield model
    model.close()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery.start(preparations=[compiler.PREPARATION], tasks=[compiler.TASK])
    yield nursery
    nursery.close()
