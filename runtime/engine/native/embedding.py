"""A context that gives vectors instead of logits."""

import ctypes
import math
from collections.abc import Sequence

from runtime.engine.native.context import Context
from runtime.engine.native.model import Model
from runtime.engine.values.edits import BatchEntry
from runtime.engine.values.facts import Pooling
from runtime.errors import EngineError


class EmbeddingContext(Context):
    """Computes the vectors of up to `num_slots` texts at once; see `Context` for threads and errors."""

    def __init__(
        self, model: Model, *, pooling: Pooling, n_ctx: int, n_batch: int, num_slots: int, num_threads: int
    ) -> None:
        """`n_batch` tokens are computed in one piece, so that a bidirectional model sees all of a text.

        llama.cpp plans its largest batch with as many tokens for each text, and ends the process where that leaves a
        remainder: `n_batch` is rounded up to a multiple of `num_slots`.
        """
        n_batch = -(-n_batch // num_slots) * num_slots
        self._pooling = pooling
        # A model with a head for ranks has a number for each class.
        api = model.library.api
        self._length: int = (
            api.llama_model_n_cls_out(model.handle)
            if pooling is Pooling.RANK
            else api.llama_model_n_embd_out(model.handle)
        )
        super().__init__(
            model,
            n_ctx=n_ctx,
            n_batch=n_batch,
            num_slots=num_slots,
            num_threads=num_threads,
            num_outputs=n_batch,
            keeps_batches_whole=True,
        )

    def _adapt(self, params: ctypes.Structure) -> None:
        params.embeddings = True
        params.pooling_type = self._pooling.value

    def clear(self) -> None:
        if self._memory:
            self._api.llama_memory_clear(self._memory, True)

    def vectors(self, entries: Sequence[BatchEntry]) -> list[list[float]]:
        """Compute a batch of tokens, each as an output, and return one vector for each slot in it, in their order.

        Without pooling one for each token. Raises what `decode` raises; EngineError for vectors that aren't numbers.
        """
        self.decode(entries)
        api, handle = self._api, self.handle
        if self._pooling is Pooling.NONE:
            return [self._copy(api.llama_get_embeddings_ith(handle, index)) for index in range(len(entries))]
        slots = dict.fromkeys(entry.slot for entry in entries)
        return [self._copy(api.llama_get_embeddings_seq(handle, slot)) for slot in slots]

    def _copy(self, pointer: "ctypes._Pointer[ctypes.c_float]") -> list[float]:
        vector: list[float] = pointer[: self._length]
        if not math.isfinite(sum(vector)):  # no sum of so few floats is too large for Python's
            raise EngineError("the model's weights are damaged: it makes vectors with parts that are no numbers")
        return vector
