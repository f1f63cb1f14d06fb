"""The KV cache, and the decode that fills it."""

import ctypes
import os
import struct
from array import array
from collections.abc import Iterable, Sequence
from mmap import ACCESS_COPY, mmap
from pathlib import Path

from runtime.engine.native.bindings import attach_threadpool, libc
from runtime.engine.native.lora import LoraAdapter
from runtime.engine.native.model import Model
from runtime.engine.native.sampler import SamplerChain
from runtime.engine.native.saved_slot import is_sound
from runtime.engine.native.threadpool import ThreadPool
from runtime.engine.values.edits import BatchEntry, Copy, Cut, Edit, MediaPart, Park, Restore, Shift
from runtime.errors import EngineError, ModelError

_FILE_HEAD = struct.Struct("=III")  # of a saved slot: llama.cpp's magic, version, number of words
_STATE_MARK_BYTES = 8
_CELLS_ROUNDED_TO = 256  # llama.cpp's own, in src/llama-context.cpp


class Aborted(Exception):
    """A decode was stopped by `Context.abort`; the batch counts as not computed."""


class NoRoom(Exception):
    """The KV cache has no place for the batch (`llama_decode` returned 1); nothing was changed."""


class Context:
    """The KV cache and what computes on it. One thread at a time, but for `abort`."""

    def __init__(
        self,
        model: Model,
        *,
        n_ctx: int,
        n_batch: int,
        num_slots: int,
        num_threads: int,
        num_outputs: int = 0,
        keeps_batches_whole: bool = False,
    ) -> None:
        """Make a context of `n_ctx` cells that `num_slots` sequences share, with a thread pool of its own.

        A batch has the logits of at most `num_outputs` tokens, by default one for each slot. Where the tokens of one
        see each other it is to be computed in one piece, which takes more memory. Raises ModelError when the memory
        can't be had.
        """
        self._model = model
        self._api = api = model.library.api
        params = api.llama_context_default_params()
        # llama.cpp makes n_batch no larger than n_ctx, and only then rounds n_ctx up: a batch that has cells, but is
        # larger than what was asked for, would end the process.
        params.n_ctx = -(-n_ctx // _CELLS_ROUNDED_TO) * _CELLS_ROUNDED_TO
        params.n_batch = n_batch
        params.n_ubatch = n_batch if keeps_batches_whole else min(n_batch, params.n_ubatch)
        params.n_seq_max = num_slots
        params.n_outputs_max = num_outputs or num_slots  # each has room for a logit of every token of the vocabulary
        params.n_threads = params.n_threads_batch = num_threads
        params.kv_unified = True
        params.no_perf = True
        self._adapt(params)
        model.library.forget_errors()
        self.handle = api.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise ModelError(
                f"no memory for a context of {n_ctx} tokens: {model.library.why()}; try a smaller -c than {n_ctx}"
            )
        self._memory = api.llama_get_memory(self.handle)
        self._pool = ThreadPool(num_threads)
        attach_threadpool()(self.handle, self._pool.handle, None)
        self._batch = api.llama_batch_init(n_batch, 0, 1)
        self.n_ctx: int = api.llama_n_ctx(self.handle)
        self.n_batch: int = api.llama_n_batch(self.handle)
        self.scales: tuple[float, ...] = ()  # of the LoRA adapters, as `set_adapters` has set them
        # ggml asks the abort callback between two operations of the graph. A Python function there would take the
        # interpreter's lock thousands of times a step; C's strlen answers the question as well: 0 (go on) while the
        # flag's first byte is zero, 1 (stop) when it isn't.
        self._abort_flag = ctypes.create_string_buffer(2)
        callback = ctypes.cast(libc().strlen, api.ggml_abort_callback)
        api.llama_set_abort_callback(self.handle, callback, ctypes.cast(self._abort_flag, ctypes.c_void_p))

    def _adapt(self, params: ctypes.Structure) -> None:
        """Change llama.cpp's own parameters before the context is made."""

    def set_threads(self, num_threads: int) -> None:
        """Compute the next batches with so many threads."""
        self._api.llama_set_n_threads(self.handle, num_threads, num_threads)

    def set_adapters(self, adapters: Sequence[LoraAdapter], scales: tuple[float, ...]) -> None:
        """Compute the next batches with these adapters, each at its scale; with a scale of 0 it isn't there."""
        applied = [(adapter.handle, scale) for adapter, scale in zip(adapters, scales, strict=True) if scale]
        handles = (self._api.llama_adapter_lora_p_ctypes * len(applied))(*(handle for handle, _scale in applied))
        factors = (ctypes.c_float * len(applied))(*(scale for _handle, scale in applied))
        if self._api.llama_set_adapters_lora(self.handle, handles, len(applied), factors) != 0:
            raise EngineError("llama.cpp could not apply the LoRA adapters")
        self.scales = scales

    def abort(self) -> None:
        """Stop the decode that is running, and every later one. Any thread."""
        self._abort_flag[0] = b"\x01"

    def close(self) -> None:
        """Free the memory; once is enough, and a second time does nothing."""
        handle, self.handle = self.handle, None
        if handle:
            self._api.llama_batch_free(self._batch)
            self._api.llama_free(handle)
            self._pool.close()

    def compute(self, entries: Sequence[BatchEntry], media: MediaPart | None) -> None:
        """Compute a step: a picture's part, or else tokens. Raises as `decode` does."""
        if media is not None:
            self.decode_media(media)
        else:
            self.decode(entries)

    def decode(self, entries: Sequence[BatchEntry]) -> None:
        """Compute a batch of at most `n_batch` tokens.

        Raises NoRoom (nothing changed), Aborted, or EngineError.
        """
        self._check_room(len(entries))
        batch = self._batch
        batch.n_tokens = len(entries)
        tokens, positions, counts, slots, logits = batch.token, batch.pos, batch.n_seq_id, batch.seq_id, batch.logits
        for index, entry in enumerate(entries):
            tokens[index] = entry.token
            positions[index] = entry.position
            counts[index] = 1
            slots[index][0] = entry.slot
            logits[index] = entry.wants_logits
        self._decode(batch)

    def decode_media(self, part: MediaPart) -> None:
        """Compute vectors of a picture as if they were tokens'. Raises as `decode` does."""
        media, count = part.media, part.count
        self._check_room(count)
        assert media.vectors is not None
        vectors = memoryview(media.vectors).cast("f")
        length = len(vectors) // media.num_tokens
        positions = array("i", range(part.position, part.position + count))
        if media.grid:
            grid = memoryview(media.grid).cast("i")
            starts = range(part.first, len(grid), media.num_tokens)
            positions = array("i", [place for start in starts for place in grid[start : start + count]])
        batch = self._api.llama_batch(
            n_tokens=count,
            embd=(ctypes.c_float * (count * length)).from_buffer_copy(vectors, 4 * part.first * length),
            pos=(ctypes.c_int32 * len(positions)).from_buffer(positions),
            n_seq_id=self._batch.n_seq_id,
            seq_id=self._batch.seq_id,
            logits=self._batch.logits,
        )
        for index in range(count):
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = part.slot
            batch.logits[index] = False
        if media.is_causal:
            self._decode(batch)
            return
        self._api.llama_set_causal_attn(self.handle, False)
        try:
            self._decode(batch)
        finally:
            self._api.llama_set_causal_attn(self.handle, True)

    def _check_room(self, num_tokens: int) -> None:
        """Raise EngineError for more tokens than the batch's arrays have room for."""
        if num_tokens > self.n_batch:
            raise EngineError(f"a batch of {num_tokens} tokens is larger than the {self.n_batch} there is room for")

    def _decode(self, batch: ctypes.Structure) -> None:
        with self._pool.apart():
            code = self._api.llama_decode(self.handle, batch)
        if code == 0:
            return
        if code == 1:
            raise NoRoom
        if code == 2:
            raise Aborted
        raise EngineError(f"llama.cpp could not compute a batch of {batch.n_tokens} tokens (code {code})")

    def sample(self, sampler: SamplerChain, index: int) -> int:
        """Choose a token from the logits of the batch's entry `index`, and let the sampler remember it."""
        token: int = self._api.llama_sampler_sample(sampler.handle, self.handle, index)
        return token

    def logits(self, index: int) -> "memoryview[float]":
        """Return the logits of the batch's entry `index`, a float for each token; valid until the next decode.

        Raises EngineError for an entry that wanted none.
        """
        pointer = self._api.llama_get_logits_ith(self.handle, index)
        if not pointer:
            raise EngineError(f"the batch's entry {index} has no logits")
        values = (ctypes.c_float * self._model.facts.n_vocab).from_address(ctypes.addressof(pointer.contents))
        return memoryview(values).cast("B").cast("f")

    def edit(self, edits: Iterable[Edit]) -> list[Restore]:
        """Carry out what the scheduler wants done to the cache, in its order; return what could not be restored."""
        failed = []
        for edit in edits:
            match edit:
                case Cut(slot, keep):
                    self.cut(slot, keep)
                case Copy(source, slot, count):
                    self.share(source, slot, count)
                case Shift(slot, keep, discard):
                    self.shift(slot, keep, discard)
                case Park(slot, parked, max_bytes):
                    parked.data = self.copy_out(slot, max_bytes)
                case Restore(slot, parked):
                    if parked.data is None or not self.copy_in(slot, parked.data):
                        failed.append(edit)
        return failed

    def cut(self, slot: int, keep: int) -> bool:
        """Drop all but the first `keep` tokens of a slot; False when this memory can't be cut there."""
        return bool(self._api.llama_memory_seq_rm(self._memory, slot, keep, -1))

    @property
    def is_causal(self) -> bool:
        """Whether each token looks back only, at those that the cache holds: what generating takes.

        Asked of the context, since a GGUF needn't say and llama.cpp decides by the architecture, too.
        """
        return bool(self._memory) and bool(self._api.llama_get_causal_attn(self.handle))

    @property
    def can_shift(self) -> bool:
        """Whether tokens can be taken out of the middle of a slot."""
        return bool(self._memory and self._api.llama_memory_can_shift(self._memory))

    def shift(self, slot: int, keep: int, discard: int) -> None:
        """Drop `discard` tokens after the first `keep` of a slot and move those behind them up."""
        self._api.llama_memory_seq_rm(self._memory, slot, keep, keep + discard)
        self._api.llama_memory_seq_add(self._memory, slot, keep + discard, -1, -discard)

    def copy_out(self, slot: int, max_bytes: int) -> bytes | None:
        """Return a copy of a slot's cache; None when it is larger than `max_bytes`."""
        size = self._api.llama_state_seq_get_size(self.handle, slot)
        if size > max_bytes:
            return None
        buffer = (ctypes.c_uint8 * size)()
        written = self._api.llama_state_seq_get_data(self.handle, buffer, size, slot)
        return bytes(memoryview(buffer)[:written]) if written else None

    def copy_in(self, slot: int, data: bytes) -> bool:
        """Put a copied cache into an empty slot; False when there is no room for it."""
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        return bool(self._api.llama_state_seq_set_data(self.handle, buffer, len(data), slot))

    def share(self, source: int, slot: int, count: int) -> None:
        """Let an empty slot share the first `count` tokens of another; they take no further cells."""
        self._api.llama_memory_seq_cp(self._memory, source, slot, 0, count)

    def num_positions(self, slot: int) -> int:
        """Return how long a slot's text is in the cache, in tokens."""
        last: int = self._api.llama_memory_seq_pos_max(self._memory, slot)
        return last + 1

    def save(self, slot: int, words: Sequence[int], path: Path) -> int:
        """Write a slot's cache and, before it, `words` (its tokens) to a file; return the size in bytes.

        Raises EngineError when llama.cpp can't.
        """
        array = (ctypes.c_int32 * len(words))(*words)
        size: int = self._api.llama_state_seq_save_file(self.handle, os.fsencode(path), slot, array, len(words))
        if not size:
            raise EngineError(f"llama.cpp could not write a slot to {path}")
        return size

    def saved_words(self, path: Path) -> list[int]:
        """Return the words at the head of a saved slot's file; none when it is no such file."""
        api = self._api
        with path.open("rb") as file:
            head = file.read(_FILE_HEAD.size)
            if len(head) < _FILE_HEAD.size:
                return []
            magic, version, num_words = _FILE_HEAD.unpack(head)
            if (magic, version) != (api.LLAMA_STATE_SEQ_MAGIC, api.LLAMA_STATE_SEQ_VERSION):
                return []
            if _FILE_HEAD.size + 4 * num_words > os.fstat(file.fileno()).st_size:
                return []
            return array("i", file.read(4 * num_words)).tolist()

    def are_tokens(self, words: Sequence[int]) -> bool:
        """Whether all of these are tokens of the vocabulary."""
        return not words or (min(words) >= 0 and max(words) < self._model.facts.n_vocab)

    def load(self, slot: int, path: Path, num_words: int, num_tokens: int) -> int:
        """Fill an empty slot with the cache that follows a file's words; return the file's size in bytes.

        0 when it can't be used: then nothing was read, or a part that `cut` takes away.

        Not `llama_state_seq_load_file`: that one ends the process when a file is shorter than it says. Reading from
        memory is checked. There llama.cpp wants a mark and a sequence id before the cache, so they are written over
        the last words, in a private mapping of the file.
        """
        empty = self._state(slot)
        mark = empty[:_STATE_MARK_BYTES]
        start = _FILE_HEAD.size + 4 * num_words - len(mark)
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_COPY) as data:
            num_bytes, place = len(data), start + len(mark)
            if not is_sound(data, place, empty[len(mark) :], num_tokens=num_tokens, has_grid=self._model.has_grid):
                return 0
            data[start:place] = mark
            state = (ctypes.c_uint8 * (num_bytes - start)).from_buffer(data, start)
            num_read = self._api.llama_state_seq_set_data(self.handle, state, len(state), slot)
            del state  # a mapping can't be closed while something points into it
        return num_bytes if num_read else 0

    def _state(self, slot: int) -> bytes:
        """Return a slot's state as it lies in memory: llama.cpp's mark and the sequence's id, then the caches."""
        size = self._api.llama_state_seq_get_size(self.handle, slot)
        state = (ctypes.c_uint8 * size)()
        self._api.llama_state_seq_get_data(self.handle, state, size, slot)
        return bytes(state)
