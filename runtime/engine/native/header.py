"""A GGUF's header, read before anything is loaded, by ggml's own reader."""

import ctypes
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runtime.engine.native.bindings import GgufInitParams, ggml_base
from runtime.engine.native.gguf_file import opened_gguf
from runtime.engine.native.library import Library
from runtime.engine.values.facts import ModelShape, num_kv_elements
from runtime.engine.values.header_rules import fault_in_header
from runtime.errors import ModelError

_ARRAY = 9  # enum gguf_type
_NUMBERS = {0: "u8", 1: "i8", 2: "u16", 3: "i16", 4: "u32", 5: "i32", 10: "u64", 11: "i64"}
_C_TYPES: dict[int, Any] = {
    0: ctypes.c_uint8,
    1: ctypes.c_int8,
    2: ctypes.c_uint16,
    3: ctypes.c_int16,
    4: ctypes.c_uint32,
    5: ctypes.c_int32,
    10: ctypes.c_uint64,
    11: ctypes.c_int64,
}
_REALS: dict[int, tuple[str, Any]] = {6: ("f32", ctypes.c_float), 12: ("f64", ctypes.c_double)}
_STRING = 8


def read_shape(library: Library, path: Path, offset: int, size: int) -> ModelShape:
    """Return the shape of the model whose GGUF of `size` bytes begins at `offset` of `path`.

    Raises ModelError when there is none, or one with impossible numbers. What a header doesn't say counts as nothing.
    """
    header = _Header(library, path, offset)
    try:
        architecture = header.text("general.architecture")
        if fault := fault_in_header(architecture, header.number):
            raise ModelError(f"{path}: this model can't be used: {fault}")

        def number(name: str, default: int = 0) -> int:
            values = header.numbers(f"{architecture}.{name}")
            return values[0] if values else default

        n_layer, n_embd = number("block_count"), number("embedding_length")
        heads = header.numbers(f"{architecture}.attention.head_count") or [0]
        kv_heads = header.numbers(f"{architecture}.attention.head_count_kv") or heads
        every = number("full_attention_interval", 1) or 1  # the other layers keep a state of fixed size
        head_length = n_embd // max(heads) if max(heads) else 0
        latent = number("attention.kv_lora_rank")
        by_layer = kv_heads if len(kv_heads) > 1 else kv_heads * (n_layer // every)
        return ModelShape(
            weights_bytes=size,
            n_ctx_train=number("context_length", 512),
            n_vocab=header.length("tokenizer.ggml.tokens"),
            n_embd=n_embd,
            n_ff=max(header.numbers(f"{architecture}.feed_forward_length") or [0]),
            num_kv_elements=num_kv_elements(
                by_layer,
                number("attention.key_length", head_length),
                number("attention.value_length", head_length),
                n_latent=latent and latent + number("rope.dimension_count"),
                is_windowed=number("attention.sliding_window") > 0,
            ),
        )
    finally:
        header.close()


def has_tensor(library: Library, path: Path, offset: int, names: Iterable[str]) -> bool:
    """Whether one of these tensors is in the GGUF that begins at `offset` of `path`."""
    header = _Header(library, path, offset)
    try:
        return any(header.has_tensor(name) for name in names)
    finally:
        header.close()


class _Header:
    def __init__(self, library: Library, path: Path, offset: int) -> None:
        self._base = ggml_base()
        with opened_gguf(path, offset) as file:
            library.forget_errors()
            self._handle = self._base.gguf_init_from_file_ptr(file, GgufInitParams(no_alloc=True))
        if not self._handle:
            raise ModelError(f"can't load the model in {path}: {library.why()}")

    def close(self) -> None:
        self._base.gguf_free(self._handle)

    def _call(self, name: str, key: int, result: Any) -> Any:
        function = getattr(self._base, name)
        function.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        function.restype = result
        return function(self._handle, key)

    def _find(self, name: str) -> tuple[int, int] | None:
        """Return a key's number and type."""
        key = self._base.gguf_find_key(self._handle, name.encode())
        return None if key < 0 else (key, self._call("gguf_get_kv_type", key, ctypes.c_int))

    def has_tensor(self, name: str) -> bool:
        return bool(self._base.gguf_find_tensor(self._handle, name.encode()) >= 0)

    def text(self, name: str) -> str:
        found = self._find(name)
        if found is None or found[1] != _STRING:
            return ""
        value: bytes = self._call("gguf_get_val_str", found[0], ctypes.c_char_p)
        return value.decode("utf-8", "replace")

    def length(self, name: str) -> int:
        found = self._find(name)
        return self._call("gguf_get_arr_n", found[0], ctypes.c_size_t) if found and found[1] == _ARRAY else 0

    def number(self, name: str) -> float | None:
        """Return a single number of whatever type; None when the key is absent or something else."""
        found = self._find(name)
        if found is not None and found[1] in _REALS:
            function, kind = _REALS[found[1]]
            return float(self._call(f"gguf_get_val_{function}", found[0], kind))
        return self.numbers(name)[0] if found is not None and found[1] in _NUMBERS else None

    def numbers(self, name: str) -> list[int]:
        """Return a whole number, or an array of them, as a list; empty when the key is absent or something else."""
        found = self._find(name)
        if found is None:
            return []
        key, kind = found
        if kind in _NUMBERS:
            return [self._call(f"gguf_get_val_{_NUMBERS[kind]}", key, _C_TYPES[kind])]
        if kind == _ARRAY and (element := self._call("gguf_get_arr_type", key, ctypes.c_int)) in _C_TYPES:
            data = self._call("gguf_get_arr_data", key, ctypes.POINTER(_C_TYPES[element]))
            return list(data[: self._call("gguf_get_arr_n", key, ctypes.c_size_t)])
        return []
