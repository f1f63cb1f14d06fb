"""llama.cpp through ctypes: handles with an owner, filled batches, typed errors.

The only module that imports llama_cpp or ctypes. It knows nothing of requests, text or policy.

Ownership: a `Model` owns the mapped weights and outlives every `Context` and `Sampler` made from it. A `Context`
and its samplers belong to one thread, the engine's; the vocabulary functions of `Model` only read and may be called
from any thread. Every object is closed by who made it, in reverse order.

The weights are mapped from wherever the GGUF lies, also in the middle of the running executable: llama.cpp reads
from the current position of a `FILE *` (`llama_model_load_from_file_ptr`) and maps the file it belongs to.
"""

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from runtime.engine.batch import BatchEntry
from runtime.engine.facts import ModelFacts
from runtime.engine.sampling import Sampler, SamplingParams
from runtime.errors import EngineError, ModelError, RequestError

_LOG_LEVEL_DEBUG, _LOG_LEVEL_ERROR = 1, 4  # enum ggml_log_level
_SEEK_SET = 0
_MIROSTAT_M = 100  # how many tokens estimate the distribution, as in llama.cpp
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


class Aborted(Exception):
    """A decode was stopped by `Context.abort`; the batch counts as not computed."""


class NoRoom(Exception):
    """The KV cache has no place for the batch (`llama_decode` returned 1); nothing was changed."""


class Library:
    """llama.cpp itself, loaded once a process, with its CPU backends.

    `on_log` gets every line that llama.cpp prints; without it they are kept for error messages only.
    """

    def __init__(self, on_log: Callable[[str], None] | None = None) -> None:
        import llama_cpp.llama_cpp as api

        self.api: Any = api
        self._last_errors: deque[str] = deque(maxlen=3)
        self._on_log = on_log
        self._log_callback = api.llama_log_callback(self._log)  # kept alive as long as llama.cpp may call it
        api.llama_log_set(self._log_callback, None)
        folder = Path(api.__file__).parent / "lib"
        # By SONAME: libllama has loaded it already, and a second copy would have a backend registry of its own.
        ggml = ctypes.CDLL("libggml.so.0")
        ggml.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
        ggml.ggml_backend_load_all_from_path.restype = None
        ggml.ggml_backend_load_all_from_path(os.fsencode(folder))
        api.llama_backend_init()
        self.ggml = ggml
        self.libc = _libc()

    def _log(self, level: int, text: bytes, _user_data: object) -> None:
        line = text.decode("utf-8", "replace")
        if level == _LOG_LEVEL_ERROR:
            self._last_errors.append(line.strip())
        if self._on_log is not None and level != _LOG_LEVEL_DEBUG:
            self._on_log(line)

    def why(self) -> str:
        """The last error line that llama.cpp printed, without the function's name before it."""
        line = self._last_errors[0] if self._last_errors else "llama.cpp gave no reason"
        return line.split(": ", 1)[-1]

    def forget_errors(self) -> None:
        self._last_errors.clear()


def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    libc.fopen.restype = ctypes.c_void_p
    libc.fseeko.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int]
    libc.fclose.argtypes = [ctypes.c_void_p]
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    libc.mmap.restype = ctypes.c_void_p
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    return libc


def resident_fraction(path: Path, offset: int, size: int) -> float:
    """Return how much of a file's range is in memory, 0 to 1, without reading any of it (mincore(2)).

    Loading maps and prefetches the weights in one system call that reports nothing, so this is its progress.
    """
    libc = _libc()
    start = offset - offset % _PAGE_BYTES
    length = offset + size - start
    num_pages = -(-length // _PAGE_BYTES)
    with path.open("rb") as file:
        address = libc.mmap(None, length, 1, 1, file.fileno(), start)  # PROT_READ, MAP_SHARED
    if address in (None, ctypes.c_void_p(-1).value):
        return 0.0
    try:
        pages = ctypes.create_string_buffer(num_pages)
        if libc.mincore(address, length, pages) != 0:
            return 0.0
        # Only the lowest bit of each byte has a meaning; Linux leaves the others 0.
        return pages.raw.count(b"\x01") / num_pages
    finally:
        libc.munmap(address, length)


class Model:
    """The weights, mapped, and the vocabulary."""

    def __init__(self, library: Library, path: Path, offset: int = 0, *, n_gpu_layers: int = -1) -> None:
        """Map the GGUF that begins at `offset` (bytes) of `path`.

        Raises ModelError when the file can't be opened or llama.cpp refuses it.
        """
        self.library = library
        api = library.api
        self._file = library.libc.fopen(os.fsencode(path), b"rb")
        if not self._file:
            reason = os.strerror(ctypes.get_errno())
            raise ModelError(f"can't open {path}: {reason}")
        library.libc.fseeko(self._file, offset, _SEEK_SET)
        params = api.llama_model_default_params()
        params.n_gpu_layers = n_gpu_layers
        params.load_mode = api.LLAMA_LOAD_MODE_MMAP
        # Without a callback llama.cpp prints dots; this one costs nothing and says to go on.
        self._progress = api.llama_progress_callback(lambda _fraction, _user_data: True)
        params.progress_callback = self._progress
        library.forget_errors()
        self.handle = api.llama_model_load_from_file_ptr(self._file, params)
        if not self.handle:
            library.libc.fclose(self._file)
            raise ModelError(f"can't load the model in {path}: {library.why()}")
        self.vocab = api.llama_model_get_vocab(self.handle)
        self.facts = self._read_facts()
        self._pieces: list[bytes | None] = [None] * self.facts.n_vocab

    def close(self) -> None:
        self.library.api.llama_model_free(self.handle)
        self.library.libc.fclose(self._file)

    def _read_facts(self) -> ModelFacts:
        api, handle = self.library.api, self.handle
        if api.llama_model_has_encoder(handle) or not api.llama_model_has_decoder(handle):
            raise ModelError("the model has an encoder: holdall runs text generation models (decoder only)")
        description = ctypes.create_string_buffer(256)
        api.llama_model_desc(handle, description, len(description))
        template = api.llama_model_chat_template(handle, None)
        bos, eos = api.llama_vocab_bos(self.vocab), api.llama_vocab_eos(self.vocab)
        has_state = api.llama_model_is_recurrent(handle) or api.llama_model_is_hybrid(handle)
        return ModelFacts(
            name=self.metadata("general.name") or "",
            description=description.value.decode("utf-8", "replace"),
            architecture=self.metadata("general.architecture") or "",
            n_ctx_train=api.llama_model_n_ctx_train(handle),
            n_vocab=api.llama_vocab_n_tokens(self.vocab),
            n_embd=api.llama_model_n_embd(handle),
            n_params=api.llama_model_n_params(handle),
            size_bytes=api.llama_model_size(handle),
            chat_template=template.decode("utf-8", "replace") if template else None,
            bos_token=self._token_text(bos),
            eos_token=self._token_text(eos),
            add_bos=api.llama_vocab_get_add_bos(self.vocab),
            vocab_type=api.llama_vocab_type(self.vocab),
            is_memory_cuttable=not has_state and api.llama_model_n_swa(handle) == 0,
        )

    def metadata(self, key: str) -> str | None:
        """Return a metadata value as text, None when the model doesn't have it."""
        api = self.library.api
        buffer = ctypes.create_string_buffer(1024)
        length = api.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else None

    def _token_text(self, token: int) -> str:
        if token < 0:
            return ""
        text: bytes = self.library.api.llama_vocab_get_text(self.vocab, token)
        return text.decode("utf-8", "replace")

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Return token ids. `add_special` adds BOS/EOS where the model wants them; `parse_special` reads `<|x|>`."""
        data = text.encode("utf-8", "surrogatepass")
        # No token is shorter than a byte; the slack is for BOS, EOS and a prefix space.
        capacity = len(data) + 16
        tokens = (ctypes.c_int32 * capacity)()
        count = self.library.api.llama_tokenize(
            self.vocab, data, len(data), tokens, capacity, add_special, parse_special
        )
        if count < 0:
            raise EngineError(f"llama.cpp could not tokenize a text of {len(data)} bytes")
        return tokens[:count]

    def piece(self, token: int) -> bytes:
        """Return the bytes that a token stands for; empty for control tokens."""
        try:
            known = self._pieces[token] if token >= 0 else None
        except IndexError:
            known = None
        if known is None:
            self._check_token(token)
            known = self._pieces[token] = self._render_piece(token)
        return known

    def _render_piece(self, token: int) -> bytes:
        api, size = self.library.api, 128
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = api.llama_token_to_piece(self.vocab, token, buffer, size, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included; RequestError for ids outside the vocabulary."""
        for token in tokens:
            self._check_token(token)
        count = len(tokens)
        ids = (ctypes.c_int32 * count)(*tokens)
        size = 16 * count + 16
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self.library.api.llama_detokenize(self.vocab, ids, count, buffer, size, False, True)
            if length >= 0:
                return buffer.raw[:length].decode("utf-8", "replace")
            size = -length

    def _check_token(self, token: int) -> None:
        if not 0 <= token < self.facts.n_vocab:
            raise RequestError(f"token id {token} is not in the model's vocabulary of {self.facts.n_vocab} tokens")

    def biases(self, logit_bias: Iterable[tuple[int | str, float]]) -> list[tuple[int, float]]:
        """Return token ids with what is added to their logits: the request's, and the tokens the model suppresses."""
        found: list[tuple[int, float]] = []
        for whom, bias in logit_bias:
            tokens = [whom] if isinstance(whom, int) else self.tokenize(whom, add_special=False, parse_special=False)
            found += [(token, bias) for token in tokens]
        count = ctypes.c_int32(0)
        suppressed = self.library.api.llama_vocab_get_suppress_tokens(self.vocab, ctypes.byref(count))
        return found + [(suppressed[index], float("-inf")) for index in range(count.value)]

    def is_end_of_generation(self, token: int) -> bool:
        return bool(self.library.api.llama_vocab_is_eog(self.vocab, token))


class SamplerChain:
    """A chain of llama.cpp's samplers for one sequence, as llama.cpp's `common_sampler_init` puts it together."""

    def __init__(self, model: Model, params: SamplingParams, seed: int, *, banned: Iterable[int] = ()) -> None:
        """`banned` tokens are never chosen (for `ignore_eos`)."""
        self._api = api = model.library.api
        self.handle = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        for stage in self._stages(model, params, seed, banned):
            api.llama_sampler_chain_add(self.handle, stage)  # the chain owns it from here on

    def _stages(self, model: Model, params: SamplingParams, seed: int, banned: Iterable[int]) -> Iterator[Any]:
        api = self._api
        n_vocab = model.facts.n_vocab
        biases = [*model.biases(params.logit_bias), *((token, float("-inf")) for token in banned)]
        if biases:
            array = (api.llama_logit_bias * len(biases))(*(api.llama_logit_bias(*bias) for bias in biases))
            yield api.llama_sampler_init_logit_bias(n_vocab, len(biases), array)
        if params.mirostat:
            yield api.llama_sampler_init_temp(params.temperature)
            tau, eta = params.mirostat_tau, params.mirostat_eta
            if params.mirostat == 1:
                yield api.llama_sampler_init_mirostat(n_vocab, seed, tau, eta, _MIROSTAT_M)
            else:
                yield api.llama_sampler_init_mirostat_v2(seed, tau, eta)
            return
        for sampler in params.order:
            if sampler is not Sampler.ADAPTIVE_P:
                yield self._stage(sampler, model, params, seed)
        if Sampler.ADAPTIVE_P in params.order:
            yield api.llama_sampler_init_adaptive_p(params.adaptive_target, params.adaptive_decay, seed)
        else:
            yield api.llama_sampler_init_dist(seed)

    def _stage(self, sampler: Sampler, model: Model, params: SamplingParams, seed: int) -> Any:
        api = self._api
        match sampler:
            case Sampler.PENALTIES:
                last_n = params.repeat_last_n if params.repeat_last_n >= 0 else model.facts.n_ctx_train
                repeat, frequency, presence = params.repeat_penalty, params.frequency_penalty, params.presence_penalty
                return api.llama_sampler_init_penalties(model.facts.n_vocab, last_n, repeat, frequency, presence)
            case Sampler.DRY:
                last_n = params.dry_penalty_last_n if params.dry_penalty_last_n >= 0 else model.facts.n_ctx_train
                texts = [text.encode() for text in params.dry_sequence_breakers]
                breakers = (ctypes.c_char_p * len(texts))(*texts)
                multiplier, base, allowed = params.dry_multiplier, params.dry_base, params.dry_allowed_length
                return api.llama_sampler_init_dry(model.vocab, multiplier, base, allowed, last_n, breakers, len(texts))
            case Sampler.TOP_N_SIGMA:
                return api.llama_sampler_init_top_n_sigma(params.top_n_sigma)
            case Sampler.TOP_K:
                return api.llama_sampler_init_top_k(params.top_k)
            case Sampler.TYPICAL_P:
                return api.llama_sampler_init_typical(params.typical_p, params.min_keep)
            case Sampler.TOP_P:
                return api.llama_sampler_init_top_p(params.top_p, params.min_keep)
            case Sampler.MIN_P:
                return api.llama_sampler_init_min_p(params.min_p, params.min_keep)
            case Sampler.XTC:
                probability, threshold = params.xtc_probability, params.xtc_threshold
                return api.llama_sampler_init_xtc(probability, threshold, params.min_keep, seed)
            case Sampler.TEMPERATURE:
                temperature, spread, exponent = params.temperature, params.dynatemp_range, params.dynatemp_exponent
                return api.llama_sampler_init_temp_ext(temperature, spread, exponent)
        raise AssertionError(f"{sampler} has no stage of its own")

    def accept(self, token: int) -> None:
        """Let the penalties see a token of the prompt."""
        self._api.llama_sampler_accept(self.handle, token)

    def close(self) -> None:
        self._api.llama_sampler_free(self.handle)


class _ThreadPoolParams(ctypes.Structure):
    """`struct ggml_threadpool_params` of ggml.h."""

    _fields_ = (
        ("cpumask", ctypes.c_bool * 512),  # GGML_MAX_N_THREADS
        ("n_threads", ctypes.c_int),
        ("prio", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict_cpu", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    )


class ThreadPool:
    """ggml's threads, kept from step to step.

    Without a pool ggml starts new threads for every step, and now and then the kernel puts one beside another on the
    same processor, where they wait for each other. `poll` 0 lets them sleep between steps instead of spinning.
    """

    def __init__(self, library: Library, max_threads: int) -> None:
        ggml = library.ggml
        for name in ("dev_by_type", "dev_backend_reg", "reg_get_proc_address"):
            getattr(ggml, f"ggml_backend_{name}").restype = ctypes.c_void_p
        ggml.ggml_backend_dev_backend_reg.argtypes = [ctypes.c_void_p]
        ggml.ggml_backend_reg_get_proc_address.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        cpu = ggml.ggml_backend_dev_backend_reg(ggml.ggml_backend_dev_by_type(0))  # GGML_BACKEND_DEVICE_TYPE_CPU
        new = ggml.ggml_backend_reg_get_proc_address(cpu, b"ggml_threadpool_new")
        free = ggml.ggml_backend_reg_get_proc_address(cpu, b"ggml_threadpool_free")
        self._free = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(free)
        params = _ThreadPoolParams(n_threads=max_threads, poll=0)
        make = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_ThreadPoolParams))(new)
        self.handle = make(ctypes.byref(params))

    def close(self) -> None:
        self._free(self.handle)


class Context:
    """The KV cache and what computes on it. One thread at a time, but for `abort`."""

    def __init__(self, model: Model, *, n_ctx: int, n_batch: int, num_slots: int, num_threads: int) -> None:
        """Make a context of `n_ctx` cells that `num_slots` sequences share.

        Raises ModelError when the memory can't be had.
        """
        self._model = model
        self._api = api = model.library.api
        params = api.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = n_batch
        params.n_ubatch = min(n_batch, params.n_ubatch)
        params.n_seq_max = num_slots
        params.n_outputs_max = num_slots  # a sequence wants logits of one token a step; room for more costs megabytes
        params.n_threads = params.n_threads_batch = num_threads
        params.kv_unified = True
        params.no_perf = True
        model.library.forget_errors()
        self.handle = api.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise ModelError(
                f"no memory for a context of {n_ctx} tokens: {model.library.why()}; try a smaller -c than {n_ctx}"
            )
        self._memory = api.llama_get_memory(self.handle)
        self._pool = ThreadPool(model.library, num_threads)
        attach = ctypes.CDLL("libllama.so.0").llama_attach_threadpool  # the bindings leave it out
        attach.argtypes = [ctypes.c_void_p] * 3
        attach(self.handle, self._pool.handle, None)
        self._batch = api.llama_batch_init(n_batch, 0, 1)
        self.n_ctx: int = api.llama_n_ctx(self.handle)
        self.n_batch = n_batch
        # ggml asks the abort callback between two operations of the graph. A Python function there would take the
        # interpreter's lock thousands of times a step; C's strlen answers the question as well: 0 (go on) while the
        # flag's first byte is zero, 1 (stop) when it isn't.
        self._abort_flag = ctypes.create_string_buffer(2)
        callback = ctypes.cast(model.library.libc.strlen, api.ggml_abort_callback)
        api.llama_set_abort_callback(self.handle, callback, ctypes.cast(self._abort_flag, ctypes.c_void_p))

    def set_threads(self, num_threads: int) -> None:
        """Compute the next batches with so many threads."""
        self._api.llama_set_n_threads(self.handle, num_threads, num_threads)

    def abort(self) -> None:
        """Stop the decode that is running, and every later one. Any thread."""
        self._abort_flag[0] = b"\x01"

    def close(self) -> None:
        self._api.llama_batch_free(self._batch)
        self._api.llama_free(self.handle)
        self._pool.close()

    def decode(self, entries: Sequence[BatchEntry]) -> None:
        """Compute a batch of at most `n_batch` tokens.

        Raises NoRoom (nothing changed), Aborted, or EngineError.
        """
        batch = self._batch
        batch.n_tokens = len(entries)
        tokens, positions, counts, slots, logits = batch.token, batch.pos, batch.n_seq_id, batch.seq_id, batch.logits
        for index, entry in enumerate(entries):
            tokens[index] = entry.token
            positions[index] = entry.position
            counts[index] = 1
            slots[index][0] = entry.slot
            logits[index] = entry.wants_logits
        code = self._api.llama_decode(self.handle, batch)
        if code == 0:
            return
        if code == 1:
            raise NoRoom
        if code == 2:
            raise Aborted
        raise EngineError(f"llama.cpp could not compute a batch of {len(entries)} tokens (code {code})")

    def sample(self, sampler: SamplerChain, index: int) -> int:
        """Choose a token from the logits of the batch's entry `index`, and let the sampler remember it."""
        token: int = self._api.llama_sampler_sample(sampler.handle, self.handle, index)
        return token

    def cut(self, slot: int, keep: int) -> bool:
        """Drop all but the first `keep` tokens of a slot; False when this memory can't be cut there."""
        return bool(self._api.llama_memory_seq_rm(self._memory, slot, keep, -1))

    def share(self, source: int, slot: int, count: int) -> None:
        """Let an empty slot share the first `count` tokens of another; they take no further cells."""
        self._api.llama_memory_seq_cp(self._memory, source, slot, 0, count)
