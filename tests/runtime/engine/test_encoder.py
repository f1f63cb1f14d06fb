"""The encoder's thread when things go wrong around it."""

import os
import queue
from typing import Any

import pytest

from runtime.engine.encoder import Encoder
from runtime.engine.policy.sequence import Sequence
from runtime.engine.values.media import Media
from runtime.errors import EngineError
from tests.asking import request_for

Outcome = tuple[Sequence, Exception | None]


class Projector:
    """Makes a vector of anything but of what is named broken."""

    def encode(self, media: Media) -> None:
        if media.key == "broken":
            raise ZeroDivisionError
        media.vectors = b"vector"

    def close(self) -> None:
        pass


def with_picture(number: int, key: str = "picture") -> Sequence:
    media = Media(key, 0, 4, 4, raw=b"raw")
    return Sequence.of(number, request_for([-1] * 4, [media]), lambda event: None)


def encoder(done: Any) -> Encoder:
    return Encoder(Projector(), done, kept_bytes=1000)  # type: ignore[arg-type]


def test_a_picture_that_fails_fails_its_sequence_alone() -> None:
    heard: queue.Queue[Outcome] = queue.Queue()
    each = encoder(lambda sequence, failure: heard.put((sequence, failure)))
    for number, key in ((1, "broken"), (2, "whole")):
        each.add(with_picture(number, key))
    outcomes = {sequence.id: failure for sequence, failure in (heard.get(timeout=30) for _ in range(2))}
    assert isinstance(outcomes[1], EngineError)
    assert outcomes[2] is None
    each.close()


def test_where_no_priority_may_be_set_pictures_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_given: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    heard: queue.Queue[Outcome] = queue.Queue()
    each = encoder(lambda sequence, failure: heard.put((sequence, failure)))
    each.add(with_picture(1))
    assert heard.get(timeout=30)[1] is None
    each.close()


def test_a_thread_that_fails_leaves_nobody_waiting() -> None:
    heard: queue.Queue[Outcome] = queue.Queue()
    goes_on: queue.Queue[None] = queue.Queue()

    def done(sequence: Sequence, failure: Exception | None) -> None:
        if sequence.id == 1:
            goes_on.get(timeout=30)
            raise ZeroDivisionError
        heard.put((sequence, failure))

    each = encoder(done)
    for number in (1, 2, 3):
        each.add(with_picture(number))
    goes_on.put(None)
    for number in (2, 3):
        sequence, failure = heard.get(timeout=30)
        assert sequence.id == number
        assert isinstance(failure, EngineError)
    with pytest.raises(EngineError, match="start the program again"):
        each.add(with_picture(4))
    each.close()
