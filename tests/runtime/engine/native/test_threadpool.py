"""The pool's threads while the caller computes with them, as the kernel tells."""

import os
from pathlib import Path

import pytest

from runtime.engine.native import Context, Library, Model
from runtime.engine.native.threadpool import ThreadPool
from runtime.engine.values.edits import BatchEntry


@pytest.fixture(autouse=True)
def library() -> Library:
    """The backends, one of which makes pools."""
    return Library()


@pytest.fixture
def allowed() -> set[int]:
    """The processors that this process may use, if they are enough to tell threads apart."""
    cpus = os.sched_getaffinity(0)
    if len(cpus) < 2:
        pytest.skip("needs two processors")
    return cpus


def where(pool: ThreadPool) -> list[set[int]]:
    return [os.sched_getaffinity(thread) for thread in pool.threads]


def test_the_pools_threads_keep_off_the_callers_processor_while_it_computes(allowed: set[int]) -> None:
    pool = ThreadPool(2)
    try:
        with pool.apart():
            (cpus,) = where(pool)
        assert cpus < allowed
        assert len(cpus) == len(allowed) - 1
        assert where(pool) == [allowed]
    finally:
        pool.close()


@pytest.mark.parametrize("num_threads", [1, 99])
def test_where_there_is_nowhere_to_go_they_stay(allowed: set[int], num_threads: int) -> None:
    pool = ThreadPool(num_threads)
    try:
        with pool.apart():
            assert where(pool) == [allowed] * (num_threads - 1)
    finally:
        pool.close()


def test_every_batch_is_computed_like_that(
    allowed: set[int], library: Library, stories260k: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound: list[set[int]] = []
    model = Model(library, stories260k)
    context = Context(model, n_ctx=256, n_batch=8, num_slots=1, num_threads=2)
    try:
        monkeypatch.setattr(ThreadPool, "_bind", lambda _pool, cpus: bound.append(cpus))
        context.decode([BatchEntry(1, 0, 0, wants_logits=True)])
        apart, again = bound
        assert apart < allowed == again
    finally:
        context.close()
        model.close()
