"""Guessing tokens ahead, so that one step can check several (speculative decoding, arXiv:2211.17192).

A step with a few tokens takes less than a few steps with one, so where guesses are good the answer comes faster. The
tokens are chosen from the model's own logits, each after the ones before it, and a guess only decides how many logits
a step computes: the text is that of no guesses, but for what another batch shape does to the last digits of logits.

Who guesses is exchangeable: the text itself, which often goes on as it did before (prompt lookup), or a small model.
How far ahead follows from how good the guesses are: twice as far after each that was right, and after one that was
wrong not at all for a while, each time for longer.
"""

from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from typing import Protocol

from runtime.engine.policy.sequence import Sequence

_FIRST_LENGTH = 2
_MAX_PAUSE = 16  # steps
_NGRAM = 3


class Guesser(Protocol):
    def guess(self, sequence_id: int, tokens: Tokens[int], max_tokens: int) -> list[int]:
        """Return at most `max_tokens` tokens that may follow; none when there is no good guess."""

    def forget(self, sequence_id: int) -> None: ...


@dataclass(slots=True)
class _Index:
    """Where each n-gram of a text was last followed by something: the place of what followed."""

    places: dict[tuple[int, ...], int] = field(default_factory=dict)
    num_seen: int = 0


class PromptLookup:
    """Guesses that what followed the last three tokens before will follow them again."""

    def __init__(self) -> None:
        self._indexes: dict[int, _Index] = {}

    def guess(self, sequence_id: int, tokens: Tokens[int], max_tokens: int) -> list[int]:
        index = self._indexes.setdefault(sequence_id, _Index())
        if len(tokens) < index.num_seen:  # a part was dropped, and all places have changed
            index = self._indexes[sequence_id] = _Index()
        for end in range(max(index.num_seen, _NGRAM), len(tokens)):
            index.places[tuple(tokens[end - _NGRAM : end])] = end
        index.num_seen = len(tokens)
        place = index.places.get(tuple(tokens[-_NGRAM:]))
        return [] if place is None else list(tokens[place : place + max_tokens])

    def forget(self, sequence_id: int) -> None:
        self._indexes.pop(sequence_id, None)


@dataclass(slots=True)
class _Record:
    length: int = _FIRST_LENGTH
    pause: int = 0
    next_pause: int = 1
    num_drafted: int = 0
    num_accepted: int = 0


class Speculation:
    """How far ahead to guess for each sequence, at most `max_tokens`."""

    def __init__(self, guesser: Guesser, max_tokens: int) -> None:
        self._guesser = guesser
        self._max_tokens = max_tokens
        self._records: dict[int, _Record] = {}

    def propose(self, sequence: Sequence) -> tuple[int, ...]:
        """Return the draft for a sequence's next step, after learning what became of the last one."""
        record = self._records.setdefault(sequence.id, _Record())
        self._learn(record, sequence)
        if record.pause:
            record.pause -= 1
            return ()
        return tuple(self._guesser.guess(sequence.id, sequence.tokens, record.length))

    def _learn(self, record: _Record, sequence: Sequence) -> None:
        num_drafted = sequence.num_drafted - record.num_drafted
        num_accepted = sequence.num_accepted - record.num_accepted
        record.num_drafted, record.num_accepted = sequence.num_drafted, sequence.num_accepted
        if num_drafted == 0:
            return
        if num_accepted == num_drafted:
            record.length = min(2 * record.length, self._max_tokens)
            record.next_pause = 1
        elif num_accepted == 0:
            record.length = min(_FIRST_LENGTH, self._max_tokens)
            record.pause = record.next_pause
            record.next_pause = min(2 * record.next_pause, _MAX_PAUSE)
        else:
            record.length = num_accepted + 1

    def forget(self, sequence: Sequence) -> None:
        if self._records.pop(sequence.id, None) is not None:
            self._guesser.forget(sequence.id)
