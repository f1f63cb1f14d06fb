"""The tokens that may come next, as llama.cpp's samplers take them, reorder them and throw them out.

Vocabularies have up to 260,000 tokens, so nothing here is done token by token in Python: copies, strided assignments
and operations on whole-vocabulary integers run in C, a millisecond for 50,000 tokens at the most.
"""

import ctypes
import heapq
import struct
from array import array
from typing import Any

from runtime.engine.native.model import Model
from runtime.engine.native.sampler import SamplerChain

Likely = tuple[int, float]  # a token and its probability

_FIELDS = 3  # of `llama_token_data`: id, logit, p, four bytes each
_MINUS_INFINITY = struct.pack("=f", float("-inf"))


class Candidates:
    """One array of candidates, filled anew for every choice. The engine's thread only.

    What a sampler gets by reference is the sampler's to change: how many candidates are left, which is selected, and
    where they begin (XTC leaves out the likeliest ones by moving the pointer). So after a chain was applied nothing of
    `_array` is as it was set, and what is left is read through its pointer, never from `_data`.
    """

    def __init__(self, model: Model) -> None:
        self._api = api = model.library.api
        self._num_tokens = count = model.facts.n_vocab
        self._data = (api.llama_token_data * count)()
        self._bytes = memoryview(self._data).cast("B")
        self._ids, self._floats = self._bytes.cast("i"), self._bytes.cast("f")
        self._ids[::_FIELDS] = memoryview(array("i", range(count)))
        self._fresh = bytes(self._bytes)  # every token in its place
        self._array = api.llama_token_data_array(self._data, count, -1, False)
        self._minus_infinities: int | None = None
        # `dist` turns logits into probabilities and leaves every token in its place; what it chooses is nobody's.
        self._softmax: Any = api.llama_sampler_init_dist(0)

    def close(self) -> None:
        self._api.llama_sampler_free(self._softmax)

    def fill(self, logits: "memoryview[float]", mask: bytes | None = None) -> None:
        """Take every token with its logit; minus infinity where `mask` has a 0 (and not 0xff) for a token."""
        self._bytes[:] = self._fresh
        self._floats[1::_FIELDS] = logits if mask is None else self._masked(logits, mask)
        self._array.data = self._data
        self._array.size = self._num_tokens
        self._array.selected = -1
        self._array.sorted = False

    def _masked(self, logits: "memoryview[float]", mask: bytes) -> "memoryview[float]":
        num_bytes = 4 * self._num_tokens
        if self._minus_infinities is None:
            self._minus_infinities = int.from_bytes(_MINUS_INFINITY * self._num_tokens, "little")
        wide = bytearray(num_bytes)
        for byte in range(4):
            wide[byte::4] = mask
        kept = int.from_bytes(wide, "little")
        masked = int.from_bytes(logits.cast("B"), "little") & kept | self._minus_infinities & ~kept
        return memoryview(masked.to_bytes(num_bytes, "little")).cast("f")

    def choose(self, chain: SamplerChain) -> int:
        """Apply a chain and return the token it chose. The chain doesn't remember it: that is `accept`'s."""
        self._apply(chain.handle)
        return int(self._array.data[self._array.selected].id)

    def likeliest(self) -> int:
        """Return the token with the highest logit; it is the only candidate then."""
        self._keep(1)
        self._apply(self._softmax)
        return int(self._array.data[0].id)

    def softmax(self, token: int, count: int) -> tuple[float, list[Likely]]:
        """Return the probability of a token and the `count` likeliest ones, of all that were filled in.

        For untouched candidates; afterwards they are good for nothing but to be filled again.
        """
        self._apply(self._softmax)
        probability = self._floats[_FIELDS * token + 2]
        self._keep(count)
        return probability, [(each.id, each.p) for each in self._array.data[: self._array.size]]

    def remaining(self, count: int) -> tuple[float, list[Likely]]:
        """Return the probability of the token just chosen and the `count` likeliest of what its chain has left."""
        left, size = self._array.data, self._array.size
        first = (ctypes.addressof(left.contents) - ctypes.addressof(self._data)) // ctypes.sizeof(left.contents)
        probabilities = self._floats[_FIELDS * first + 2 : _FIELDS * (first + size) : _FIELDS]
        best = heapq.nlargest(count, range(size), key=probabilities.__getitem__)
        likely = [(left[place].id, left[place].p) for place in best]
        return left[self._array.selected].p, [each for each in likely if each[1] > 0]

    def _keep(self, count: int) -> None:
        """Keep the candidates with the highest logits, in llama.cpp's order where two are alike."""
        top_k = self._api.llama_sampler_init_top_k(count)
        self._apply(top_k)
        self._api.llama_sampler_free(top_k)

    def _apply(self, sampler: Any) -> None:
        self._api.llama_sampler_apply(sampler, ctypes.byref(self._array))
