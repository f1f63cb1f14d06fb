"""Reads what a GGUF file says about its model, and refuses files that can't be one; never touches the tensor data.

The format (ggml's docs/gguf.md), little endian throughout:

    "GGUF"  version u32  num_tensors u64  num_entries u64
    entries:  key string, type u32, value          string: length u64, bytes    array: type u32, count u64, values
    tensors:  name string, num_dims u32, dims u64 each, type u32, offset u64 (from the start of the data)
    padding to general.alignment, then the data

Every count and length comes from the file and is held against the bytes that are left before anything is read or
allocated for it: a header that claims 2^60 tensors costs nothing. Arrays are skipped; only their length is kept.
"""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bundler.errors import GGUFError
from runtime.engine.values.header_rules import fault_in_header

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS = {  # value type: struct format
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_MAX_ARRAY_DEPTH = 4
_MAX_STRING_BYTES = 64 << 20  # a chat template has a few KB, a long licence some 100
_MIN_ENTRY_BYTES = 8 + 4 + 1
_MIN_TENSOR_BYTES = 8 + 4 + 4 + 8

BLOCK_SIZES = {  # ggml tensor type: (elements, bytes) of a block; ggml.c's type_traits
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip

QUANTIZATIONS = {  # general.file_type: llama.h's llama_ftype
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4",
    40: "Q1_0",
}  # fmt: skip

_NOT_A_MODEL = {  # general.type: what it is
    "adapter": "a LoRA adapter",
    "mmproj": "a projector for images or sound",
    "imatrix": "an importance matrix",
}


@dataclass(frozen=True)
class ModelFacts:
    """What a model says about itself; empty text and zero where it doesn't say."""

    architecture: str
    name: str
    description: str
    license: str
    quantization: str
    n_params: int
    n_ctx_train: int
    n_embd: int
    n_vocab: int
    has_chat_template: bool


@dataclass(frozen=True)
class _Array:
    count: int


_Value = int | float | str | _Array


def read_facts(path: Path) -> ModelFacts:
    """Read and check a model; GGUFError when it can't be used, with what it is instead where that can be told."""
    try:
        with path.open("rb") as file:
            return _read(_Reader(path, file, os.fstat(file.fileno()).st_size))
    except OSError as error:
        raise GGUFError(f"{path}: can't be read ({error.strerror or error})") from error


@dataclass(frozen=True)
class ProjectorFacts:
    """What a projector lets a model read besides text."""

    media: tuple[str, ...]


def read_projector_facts(path: Path) -> ProjectorFacts:
    """Read and check a projector; GGUFError when it is none."""
    try:
        with path.open("rb") as file:
            reader = _Reader(path, file, os.fstat(file.fileno()).st_size)
            num_tensors, metadata = _read_metadata(reader)
            if _kind(metadata) != "mmproj":
                raise reader.error("not a projector; those are named mmproj-*.gguf")
            _check_tensors(reader, num_tensors, metadata)
    except OSError as error:
        raise GGUFError(f"{path}: can't be read ({error.strerror or error})") from error
    encoders = {"clip.has_vision_encoder": "pictures", "clip.has_audio_encoder": "sounds"}
    media = tuple(name for key, name in encoders.items() if metadata.get(key))
    if not media:
        raise GGUFError(f"{path}: a projector for neither pictures nor sounds")
    return ProjectorFacts(media)


class _Reader:
    """Takes values off a file, never more than it has."""

    def __init__(self, path: Path, file: IO[bytes], size: int) -> None:
        self.path = path
        self.size = size
        self.position = 0
        self._file = file

    def error(self, message: str) -> GGUFError:
        return GGUFError(f"{self.path}: {message}")

    def take(self, num_bytes: int) -> bytes:
        self.require(num_bytes)
        self.position += num_bytes
        data = self._file.read(num_bytes)
        if len(data) < num_bytes:
            raise self.error("truncated while it was being read")
        return data

    def skip(self, num_bytes: int) -> None:
        self.require(num_bytes)
        self.position += num_bytes
        self._file.seek(self.position)

    def require(self, num_bytes: int) -> None:
        if num_bytes > self.size - self.position:
            raise self.error(
                f"truncated or damaged: {num_bytes} bytes should follow at offset {self.position}, but the file ends "
                f"at {self.size}; get it again"
            )

    def number(self, layout: str) -> int:
        (value,) = struct.unpack(layout, self.take(struct.calcsize(layout)))
        return int(value)

    def string(self) -> str:
        length = self.number("<Q")
        self.require(length)
        if length > _MAX_STRING_BYTES:
            raise self.error(f"damaged: a text of {length} bytes at offset {self.position}")
        return self.take(length).decode("utf-8", errors="replace")

    def value(self, kind: int) -> _Value:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return _Array(self._skip_array(_MAX_ARRAY_DEPTH))
        if kind not in _SCALARS:
            raise self.error(f"damaged: unknown value type {kind} at offset {self.position}")
        layout = _SCALARS[kind]
        (value,) = struct.unpack(layout, self.take(struct.calcsize(layout)))
        return value if isinstance(value, float) else int(value)

    def _skip_array(self, depth: int) -> int:
        kind, count = self.number("<I"), self.number("<Q")
        if kind in _SCALARS:
            self.skip(count * struct.calcsize(_SCALARS[kind]))
        elif kind == _STRING:
            self.require(count * 8)
            for _ in range(count):
                self.skip_string()
        elif kind == _ARRAY and depth:
            self.require(count * 12)
            for _ in range(count):
                self._skip_array(depth - 1)
        else:
            raise self.error(f"damaged: unknown array type {kind} at offset {self.position}")
        return count

    def skip_string(self) -> None:
        length = self.number("<Q")
        if length < 4096:  # reading stays in the buffer, seeking asks the system
            self.take(length)
        else:
            self.skip(length)


def _read(reader: _Reader) -> ModelFacts:
    num_tensors, metadata = _read_metadata(reader)
    _refuse_what_is_no_model(reader, metadata)
    n_params, has_embeddings = _check_tensors(reader, num_tensors, metadata)
    if not has_embeddings:  # every architecture of llama.cpp has them; ggml-vocab-*.gguf have no tensors at all
        raise reader.error("has a vocabulary but no weights, so it can't generate; get the model itself")
    return _facts(metadata, n_params)


def _read_metadata(reader: _Reader) -> tuple[int, dict[str, _Value]]:
    """Return the number of tensors, whose infos follow, and what the file says of itself."""
    num_tensors, num_entries = _read_header(reader)
    metadata: dict[str, _Value] = {}
    for _ in range(num_entries):
        key = reader.string()
        metadata[key] = reader.value(reader.number("<I"))
    return num_tensors, metadata


def _kind(metadata: Mapping[str, _Value]) -> str:
    return "mmproj" if _text(metadata, "general.architecture") == "clip" else _text(metadata, "general.type")


def _read_header(reader: _Reader) -> tuple[int, int]:
    if reader.size < 4 or reader.take(4) != _MAGIC:
        raise reader.error("not a GGUF model (it doesn't begin with GGUF)")
    version = reader.number("<I")
    if version and version % 0x10000 == 0:
        raise reader.error("a big-endian GGUF, which llama.cpp doesn't load here; convert it to little endian")
    if version not in _VERSIONS:
        raise reader.error(f"GGUF version {version}; versions 2 and 3 can be used, convert it again from its source")
    num_tensors, num_entries = reader.number("<Q"), reader.number("<Q")
    left = reader.size - reader.position
    if num_tensors * _MIN_TENSOR_BYTES + num_entries * _MIN_ENTRY_BYTES > left:
        raise reader.error(
            f"truncated or damaged: {num_tensors} tensors and {num_entries} metadata entries don't fit into "
            f"{left} bytes; get it again"
        )
    return num_tensors, num_entries


def _refuse_what_is_no_model(reader: _Reader, metadata: Mapping[str, _Value]) -> None:
    kind = _kind(metadata)
    if kind in _NOT_A_MODEL:
        raise reader.error(f"{_NOT_A_MODEL[kind]}, not a model by itself")
    if not _text(metadata, "general.architecture"):
        raise reader.error("names no architecture, so llama.cpp can't load it")
    if fault := fault_in_header(_text(metadata, "general.architecture"), lambda key: _any_number(metadata, key)):
        raise reader.error(f"this model can't be used: {fault}")
    num_parts = _number(metadata, "split.count")
    if num_parts > 1:
        part = _number(metadata, "split.no") + 1
        raise reader.error(
            f"part {part} of {num_parts} of a split model; merge them first: llama-gguf-split --merge FIRST-PART OUT"
        )


def _check_tensors(reader: _Reader, num_tensors: int, metadata: Mapping[str, _Value]) -> tuple[int, bool]:
    """Read the tensor infos and check that the data they speak of is there.

    Return the number of parameters, and whether there are tokens' embeddings among them.
    """
    alignment = _number(metadata, "general.alignment") or 32
    n_params = data_bytes = 0
    has_embeddings = False
    for _ in range(num_tensors):
        name = reader.string()
        num_dims = reader.number("<I")
        if num_dims > 4:  # GGML_MAX_DIMS
            raise reader.error(f"damaged: tensor {name!r} has {num_dims} dimensions")
        num_elements = 1
        for _ in range(num_dims):
            num_elements *= reader.number("<Q")
        # A type newer than this table counts as empty: its offset is still checked.
        block_elements, block_bytes = BLOCK_SIZES.get(reader.number("<I"), (1, 0))
        offset = reader.number("<Q")
        data_bytes = max(data_bytes, offset + num_elements // block_elements * block_bytes)
        n_params += num_elements
        has_embeddings |= name == "token_embd.weight"
    data_start = reader.position + -reader.position % alignment
    if data_start + data_bytes > reader.size:
        raise reader.error(
            f"truncated: has {reader.size} bytes of {data_start + data_bytes} that its tensors need; get it again"
        )
    return n_params, has_embeddings


def _facts(metadata: Mapping[str, _Value], n_params: int) -> ModelFacts:
    architecture = _text(metadata, "general.architecture")
    tokens = metadata.get("tokenizer.ggml.tokens")
    return ModelFacts(
        architecture=architecture,
        name=_text(metadata, "general.name"),
        description=_text(metadata, "general.description"),
        license=_text(metadata, "general.license"),
        quantization=QUANTIZATIONS.get(_number(metadata, "general.file_type") % 1024, "")  # 1024: guessed
        if "general.file_type" in metadata
        else "",
        n_params=n_params,
        n_ctx_train=_number(metadata, f"{architecture}.context_length"),
        n_embd=_number(metadata, f"{architecture}.embedding_length"),
        n_vocab=tokens.count if isinstance(tokens, _Array) else _number(metadata, f"{architecture}.vocab_size"),
        has_chat_template="tokenizer.chat_template" in metadata,
    )


def _text(metadata: Mapping[str, _Value], key: str) -> str:
    value = metadata.get(key, "")
    return value if isinstance(value, str) else ""


def _any_number(metadata: Mapping[str, _Value], key: str) -> float | None:
    value = metadata.get(key)
    return value if isinstance(value, (int, float)) else None


def _number(metadata: Mapping[str, _Value], key: str) -> int:
    value = metadata.get(key, 0)
    return value if isinstance(value, int) and value >= 0 else 0
