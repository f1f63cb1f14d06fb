"""Caches of conversations that had to leave the KV cache, kept in ordinary memory until they go on.

With more conversations than slots, each would compute all its tokens again at every turn. Copying a cache out and in
takes milliseconds where computing it takes seconds. The least recently used go first when there are too many bytes.
Knows no llama.cpp: whoever carries out the copies sets `Parked.data`.
"""

from collections.abc import Sequence as Tokens
from dataclasses import dataclass

from runtime.engine.slots import common_prefix_length


@dataclass(eq=False, slots=True)
class Parked:
    """A cache that was copied out; `data` is None when the copy wasn't made, and then it is worth nothing."""

    tokens: list[int]
    data: bytes | None = None


class ParkingLot:
    """All parked caches, `limit_bytes` together. `is_cuttable` tells whether the beginning of one can be used."""

    def __init__(self, limit_bytes: int, *, is_cuttable: bool) -> None:
        self.limit_bytes = limit_bytes
        self._is_cuttable = is_cuttable
        self._parked: list[Parked] = []  # the least recently used first

    @property
    def is_open(self) -> bool:
        return self.limit_bytes > 0

    @property
    def num_bytes(self) -> int:
        return sum(len(parked.data) for parked in self._parked if parked.data is not None)

    def add(self, tokens: Tokens[int]) -> Parked:
        """Take in a cache whose copy is about to be made."""
        parked = Parked(list(tokens))
        self._parked.append(parked)
        return parked

    def best_for(self, prompt: Tokens[int]) -> tuple[Parked, int] | None:
        """Return the cache that knows most of a prompt and how many of its tokens; at least one is left to compute."""
        best = max(self._parked, key=lambda parked: self._num_reusable(parked, prompt), default=None)
        if best is None or self._num_reusable(best, prompt) == 0:
            return None
        return best, self._num_reusable(best, prompt)

    def _num_reusable(self, parked: Parked, prompt: Tokens[int]) -> int:
        if parked.data is None:
            return 0
        common = common_prefix_length(parked.tokens, prompt)
        if self._is_cuttable:
            return min(common, len(prompt) - 1)
        return common if common == len(parked.tokens) < len(prompt) else 0

    def take(self, parked: Parked) -> None:
        """Let a cache go that is on its way back."""
        self._parked.remove(parked)

    def tidy(self) -> None:
        """Drop copies that weren't made, those that a longer one contains, and the oldest beyond the limit."""
        made = [parked for parked in self._parked if parked.data is not None]
        self._parked = [
            parked
            for index, parked in enumerate(made)
            if not any(_contains(later, parked) for later in made[index + 1 :])
        ]
        while self.num_bytes > self.limit_bytes:
            del self._parked[0]


def _contains(longer: Parked, shorter: Parked) -> bool:
    return common_prefix_length(longer.tokens, shorter.tokens) == len(shorter.tokens)
