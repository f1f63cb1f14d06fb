"""Caches of conversations that had to leave the KV cache, kept in ordinary memory until they go on.

With more conversations than slots, each would compute all its tokens again at every turn. Copying a cache out and in
takes milliseconds where computing it takes seconds. The least recently used go first when there are too many bytes.
Short conversations are parked by the thousand, and every step asks, so they are kept in the order of their tokens: the
one that shares most with a prompt stands beside the place where the prompt itself would.
Knows no llama.cpp: whoever carries out the copies sets `Parked.data`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence as Tokens

from runtime.engine.policy.prefix import common_prefix_length
from runtime.engine.values.edits import Parked

_Key = tuple[tuple[float, ...], list[int]]


class ParkingLot:
    """All parked caches, `limit_bytes` together. `is_cuttable`: the beginning of one can be used alone."""

    def __init__(self, limit_bytes: int, *, is_cuttable: bool) -> None:
        self.limit_bytes = limit_bytes
        self.num_bytes = 0
        self._is_cuttable = is_cuttable
        self._coming: list[Parked] = []  # whose copies are about to be made
        self._parked: list[Parked] = []  # in the order of `_key`
        self._by_age: dict[Parked, None] = {}  # the least recently used first

    @property
    def is_open(self) -> bool:
        return self.limit_bytes > 0

    def add(self, tokens: Tokens[int], lora: tuple[float, ...] = ()) -> Parked:
        """Take in a cache, computed with adapters at these scales, whose copy is about to be made."""
        parked = Parked(list(tokens), lora)
        self._coming.append(parked)
        return parked

    def best_for(self, prompt: Tokens[int], lora: tuple[float, ...] = ()) -> tuple[Parked, int] | None:
        """Return the cache that knows most of a prompt and how many of its tokens; at least one is left to compute."""
        tokens = list(prompt[:-1])
        if self._is_cuttable:
            place = bisect_left(self._parked, (lora, tokens), key=_key)
            neighbours = [parked for parked in self._parked[max(0, place - 1) : place + 1] if parked.lora == lora]
            best = max(neighbours, key=lambda parked: common_prefix_length(parked.tokens, tokens), default=None)
            num_known = common_prefix_length(best.tokens, tokens) if best else 0
            return (best, num_known) if best and num_known else None
        while tokens:
            place = bisect_right(self._parked, (lora, tokens), key=_key)
            before = self._parked[place - 1] if place else None
            if before is None or before.lora != lora:
                return None
            num_known = common_prefix_length(before.tokens, tokens)
            if num_known == len(before.tokens):
                return before, num_known
            del tokens[num_known:]  # what knows a beginning stands before all that go on from it
        return None

    def take(self, parked: Parked) -> None:
        """Let a cache go that is on its way back."""
        del self._by_age[parked]
        place = bisect_left(self._parked, _key(parked), key=_key)
        del self._parked[self._parked.index(parked, place)]
        self.num_bytes -= len(parked.data or b"")

    def tidy(self) -> None:
        """Drop copies that weren't made, those that a longer one contains, and the oldest beyond the limit."""
        for parked in self._coming:
            if parked.data is not None:
                self._put(parked)
        self._coming.clear()
        while self.num_bytes > self.limit_bytes:
            self.take(next(iter(self._by_age)))

    def _put(self, parked: Parked) -> None:
        place = bisect_left(self._parked, _key(parked), key=_key)
        if self._is_cuttable:  # otherwise a shorter one serves where a longer one doesn't
            if place < len(self._parked) and _contains(self._parked[place], parked):
                return
            while place and _contains(parked, self._parked[place - 1]):
                place -= 1
                self.take(self._parked[place])
        self._parked.insert(place, parked)
        self._by_age[parked] = None
        self.num_bytes += len(parked.data or b"")


def _key(parked: Parked) -> _Key:
    return parked.lora, parked.tokens


def _contains(longer: Parked, shorter: Parked) -> bool:
    return longer.lora == shorter.lora and common_prefix_length(longer.tokens, shorter.tokens) == len(shorter.tokens)
