"""The weights and the vocabulary.

The weights are mapped from wherever the GGUF lies, also in the middle of the running executable: llama.cpp reads
from the current position of a `FILE *` (`llama_model_load_from_file_ptr`) and maps the file it belongs to.
"""

import ctypes
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path

from runtime.engine.native.bindings import libc
from runtime.engine.native.chat_templates import write_messages
from runtime.engine.native.gguf_file import open_gguf
from runtime.engine.native.header import has_tensor
from runtime.engine.native.library import Library
from runtime.engine.native.long_text import MAX_PIECE_CHARS, tokens_of_pieces
from runtime.engine.values.facts import ControlToken, FillTokens, ModelFacts, Pooling
from runtime.engine.values.request import MAX_TEXT_TOKENS
from runtime.errors import EngineError, ModelError, RequestError, TooManyTokens

_TOO_MANY_TOKENS = -(2**31)  # says llama_tokenize where their number doesn't fit in 32 bits
_RANKING_TENSORS = ("cls.weight", "cls.output.weight")  # llama.cpp's names; a model has one of them or both


_MAX_COUNTED_CHARS = 1024 * 1024  # the tokens of a prompt of up to these are counted to the end, for the refusal


class Model:
    """The weights, mapped, and the vocabulary."""

    def __init__(self, library: Library, path: Path, offset: int = 0, *, n_gpu_layers: int = -1) -> None:
        """Map the GGUF that begins at `offset` (bytes) of `path`.

        Raises ModelError when the file can't be opened or llama.cpp refuses it.
        """
        self.library = library
        self._path, self._offset = path, offset
        api = library.api
        self._file = open_gguf(path, offset)
        params = api.llama_model_default_params()
        params.n_gpu_layers = n_gpu_layers
        params.load_mode = api.LLAMA_LOAD_MODE_MMAP
        # Without a callback llama.cpp prints dots; this one costs nothing and says to go on.
        self._progress = api.llama_progress_callback(lambda _fraction, _user_data: True)
        params.progress_callback = self._progress
        library.forget_errors()
        self.handle = api.llama_model_load_from_file_ptr(self._file, params)
        if not self.handle:
            libc().fclose(self._file)
            raise ModelError(f"can't load the model in {path}: {library.why()}")
        self.vocab = api.llama_model_get_vocab(self.handle)
        self.facts = self._read_facts()
        self._pieces: list[bytes | None] = [None] * self.facts.n_vocab

    def close(self) -> None:
        self.library.api.llama_model_free(self.handle)
        libc().fclose(self._file)

    def _read_facts(self) -> ModelFacts:
        api, handle = self.library.api, self.handle
        if api.llama_model_has_encoder(handle) or not api.llama_model_has_decoder(handle):
            raise ModelError("the model has an encoder: holdall runs text generation models (decoder only)")
        description = ctypes.create_string_buffer(256)
        api.llama_model_desc(handle, description, len(description))
        template = api.llama_model_chat_template(handle, None)
        rerank = api.llama_model_chat_template(handle, b"rerank")
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
            bos_token=self.token_text(bos),
            eos_token=self.token_text(eos),
            add_bos=api.llama_vocab_get_add_bos(self.vocab),
            vocab_type=api.llama_vocab_type(self.vocab),
            is_memory_cuttable=not has_state and api.llama_model_n_swa(handle) == 0,
            quantization=self._quantization(),
            pooling=self._pooling(),
            rerank_template=rerank.decode("utf-8", "replace") if rerank else None,
        )

    def _quantization(self) -> str:
        api = self.library.api
        names = {value: name for name, value in vars(api).items() if name.startswith("LLAMA_FTYPE_")}
        known: str = names.get(api.llama_model_ftype(self.handle) & ~api.LLAMA_FTYPE_GUESSED, "")
        return known.removeprefix("LLAMA_FTYPE_").removeprefix("MOSTLY_").removeprefix("ALL_")

    def all_metadata(self) -> dict[str, str]:
        """Return the metadata as texts, lists left out (llama.cpp keeps none)."""
        api = self.library.api

        def text(read: Callable[..., int], index: int) -> str:
            size = read(self.handle, index, ctypes.create_string_buffer(1), 1) + 1
            buffer = ctypes.create_string_buffer(max(size, 1))
            read(self.handle, index, buffer, len(buffer))
            return buffer.value.decode("utf-8", "replace")

        return {
            text(api.llama_model_meta_key_by_index, index): text(api.llama_model_meta_val_str_by_index, index)
            for index in range(api.llama_model_meta_count(self.handle))
        }

    def _architecture_value(self, name: str) -> str | None:
        return self.metadata(f"{self.metadata('general.architecture')}.{name}")

    def _pooling(self) -> Pooling | None:
        try:
            return Pooling(int(self._architecture_value("pooling_type") or -1))
        except ValueError:
            return None

    def has_head_for_ranks(self) -> bool:
        """Whether the model ends in the layers that make one number of a pair of texts. Reads the header again.

        llama.cpp has no function for that. Without such layers its ranks are an arbitrary number of a vector.
        """
        return has_tensor(self.library, self._path, self._offset, _RANKING_TENSORS)

    @property
    def has_grid(self) -> bool:
        """Whether a token has places in a picture beside its position, or its cell the token itself (n-gram hashes)."""
        api = self.library.api
        with_grids = (api.LLAMA_ROPE_TYPE_MROPE, api.LLAMA_ROPE_TYPE_IMROPE)
        return (
            api.llama_model_rope_type(self.handle) in with_grids
            or self._architecture_value("ple.ngram_size") is not None
        )

    def metadata(self, key: str) -> str | None:
        """Return a metadata value as text, None when the model doesn't have it."""
        api = self.library.api
        buffer = ctypes.create_string_buffer(1024)
        length = api.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else None

    @property
    def fill_tokens(self) -> FillTokens | None:
        """The tokens for filling a gap; None when one of the three it takes is missing."""
        api, vocab = self.library.api, self.vocab
        prefix, suffix, middle, repository, file = (
            int(token) if token >= 0 else None
            for token in (
                api.llama_vocab_fim_pre(vocab),
                api.llama_vocab_fim_suf(vocab),
                api.llama_vocab_fim_mid(vocab),
                api.llama_vocab_fim_rep(vocab),
                api.llama_vocab_fim_sep(vocab),
            )
        )
        if prefix is None or suffix is None or middle is None:
            return None
        return FillTokens(prefix, suffix, middle, repository, file)

    def token_text(self, token: int) -> str:
        """Return a token's name in the vocabulary, `<|im_end|>` for a control token; empty where there is none."""
        if token < 0:
            return ""
        text: bytes = self.library.api.llama_vocab_get_text(self.vocab, token)
        return text.decode("utf-8", "replace")

    def tokenize(
        self, text: str, *, add_special: bool, parse_special: bool, max_tokens: int = MAX_TEXT_TOKENS
    ) -> list[int]:
        """Return token ids. `add_special` adds BOS/EOS where the model wants them; `parse_special` reads `<|x|>`.

        A text that is very long and has more than `max_tokens` raises TooManyTokens before all of it is tokenized, and
        one with an endless word RequestError. Blocks; a long text takes a second for each five megabytes or so.
        """
        if len(text) <= MAX_PIECE_CHARS:
            return self._tokenize(text, add_special=add_special, parse_special=parse_special)

        def tokenize(piece: str) -> list[int]:
            return self._tokenize(piece, add_special=False, parse_special=parse_special)

        head, tail = self._around if add_special else ([], [])
        tokens = list(head)
        for num_pieces, more in enumerate(tokens_of_pieces(text, tokenize)):
            tokens += more
            if len(tokens) > max_tokens and num_pieces * MAX_PIECE_CHARS > _MAX_COUNTED_CHARS:
                raise TooManyTokens(len(tokens), max_tokens)
        return tokens + tail

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a text."""
        plain, whole = (self._tokenize("a", add_special=special, parse_special=False) for special in (False, True))
        starts = (n for n in range(len(whole)) if whole[n : n + len(plain)] == plain)
        start = next(starts, 0)
        return whole[:start], whole[start + len(plain) :]

    def _tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        data = text.encode("utf-8", "surrogatepass")
        # Hardly a token is shorter than a byte; the slack is for BOS, EOS and a prefix space. But a vocabulary may have
        # no token for what llama.cpp writes for a space or makes of a character: then it says how many there are.
        capacity = len(data) + 16
        while True:
            tokens = (ctypes.c_int32 * capacity)()
            count = self.library.api.llama_tokenize(
                self.vocab, data, len(data), tokens, capacity, add_special, parse_special
            )
            if count >= 0:
                return tokens[:count]
            if count == _TOO_MANY_TOKENS:
                raise EngineError(f"llama.cpp could not tokenize a text of {len(data)} bytes")
            capacity = -count

    def pair(self, first: str, second: str) -> list[int]:
        """Return two texts with the model's special tokens around and between them, as a ranking model reads them."""
        api, vocab = self.library.api, self.vocab
        end = api.llama_vocab_eos(vocab)
        ends = [end if end >= 0 else api.llama_vocab_sep(vocab)] if api.llama_vocab_get_add_eos(vocab) else []
        return [
            *([api.llama_vocab_bos(vocab)] if api.llama_vocab_get_add_bos(vocab) else []),
            *self.tokenize(first, add_special=False, parse_special=False),
            *ends,
            *([api.llama_vocab_sep(vocab)] if api.llama_vocab_get_add_sep(vocab) else []),
            *self.tokenize(second, add_special=False, parse_special=False),
            *ends,
        ]

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

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """The tokens at which the model ends. Blocks the first time; call from a thread."""
        return tuple(filter(self.is_end_of_generation, range(self.facts.n_vocab)))

    @cached_property
    def control_tokens(self) -> tuple[ControlToken, ...]:
        """The tokens that only `parse_special` reads. Blocks the first time; call from a thread."""
        api = self.library.api
        control = api.LLAMA_TOKEN_ATTR_CONTROL | api.LLAMA_TOKEN_ATTR_UNKNOWN
        attributes = enumerate(map(partial(api.llama_vocab_get_attr, self.vocab), range(self.facts.n_vocab)))
        return tuple(
            ControlToken(
                name=self.token_text(token),
                strips_left=bool(attribute & api.LLAMA_TOKEN_ATTR_LSTRIP),
                strips_right=bool(attribute & api.LLAMA_TOKEN_ATTR_RSTRIP),
            )
            for token, attribute in attributes
            if attribute & control
        )

    def write_messages(
        self, template: str, messages: Sequence[tuple[str, str]], *, adds_generation_prompt: bool
    ) -> str:
        """Return the prompt of (role, text) pairs by one of llama.cpp's own templates. Raises RequestError."""
        return write_messages(self.library, template, messages, adds_generation_prompt=adds_generation_prompt)

    def is_end_of_generation(self, token: int) -> bool:
        return bool(self.library.api.llama_vocab_is_eog(self.vocab, token))
