"""Tiny models that see and hear, with random weights: a text model with the marks it takes, and projectors for it."""

import io
import math
import struct
import wave
import zlib
from enum import Enum
from pathlib import Path

import gguf
import numpy as np

N_CTX = 1024
_N_EMBD, _N_FF, _N_HEAD = 32, 64, 2
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:!?"
_MARKS = [
    *("\n\n", "<fake_token_around_image>", "<global-img>", "<start_of_image>", "<end_of_image>"),
    *("<|vision_start|>", "<|vision_end|>", *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2))),
]
_PATCH, _SIDE = 4, 32  # pixels


class Projecting(Enum):
    """Kinds of projectors, by mtmd's names."""

    WHOLE = "gemma3"  # one size for all pictures, whose tokens see each other
    TILED = "idefics3"  # large pictures in tiles, a small one of the whole with them
    GRID = "qwen2vl_merger"  # any size, and positions of two dimensions
    SOUND = "ultravox"


def write_text_model(path: Path, *, has_grid: bool = False) -> Path:
    """A model of two layers that knows letters, bytes and marks; `has_grid` gives it M-RoPE."""
    chance = np.random.default_rng(11)
    architecture = "qwen2vl" if has_grid else "llama"
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *("▁", *_LETTERS), *_MARKS]
    types = [2, 3, 3, *[6] * 256, *[1] * (1 + len(_LETTERS)), *[4] * len(_MARKS)]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny seer")
    writer.add_context_length(N_CTX)
    writer.add_embedding_length(_N_EMBD)
    writer.add_feed_forward_length(_N_FF)
    writer.add_block_count(2)
    writer.add_head_count(_N_HEAD)
    writer.add_head_count_kv(_N_HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_N_EMBD // _N_HEAD)
    if has_grid:
        writer.add_rope_dimension_sections([2, 3, 3, 0])
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words)
    writer.add_token_scores([0.0] * len(words))
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    weights = _Weights(writer, chance)
    weights.add("token_embd.weight", len(words), _N_EMBD)
    for layer in (0, 1):
        for name in ("attn_q", "attn_k", "attn_v"):
            weights.add(f"blk.{layer}.{name}.weight", _N_EMBD, _N_EMBD)
            if has_grid:
                weights.add(f"blk.{layer}.{name}.bias", _N_EMBD)
        weights.add(f"blk.{layer}.attn_output.weight", _N_EMBD, _N_EMBD)
        weights.add_ones(f"blk.{layer}.attn_norm.weight", _N_EMBD)
        weights.add_ones(f"blk.{layer}.ffn_norm.weight", _N_EMBD)
        weights.add(f"blk.{layer}.ffn_gate.weight", _N_FF, _N_EMBD)
        weights.add(f"blk.{layer}.ffn_up.weight", _N_FF, _N_EMBD)
        weights.add(f"blk.{layer}.ffn_down.weight", _N_EMBD, _N_FF)
    weights.add_ones("output_norm.weight", _N_EMBD)
    weights.add("output.weight", len(words), _N_EMBD)
    return _written(writer, path)


def write_projector(path: Path, kind: Projecting, *, n_embd: int = _N_EMBD) -> Path:
    """A projector of one layer for a text model whose vectors have `n_embd` numbers."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type(gguf.GGUFType.MMPROJ)
    writer.add_name("tiny projector")
    writer.add_string("clip.projector_type", kind.value)
    writer.add_bool("clip.use_gelu", True)
    weights = _Weights(writer, np.random.default_rng(13))
    if kind is Projecting.SOUND:
        _add_ears(writer, weights, n_embd)
    else:
        _add_eyes(writer, weights, kind, n_embd)
    return _written(writer, path)


def _add_eyes(writer: gguf.GGUFWriter, weights: "_Weights", kind: Projecting, n_embd: int) -> None:
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_uint32("clip.vision.image_size", _SIDE)
    writer.add_uint32("clip.vision.patch_size", _PATCH)
    writer.add_uint32("clip.vision.projector.scale_factor", 2)
    writer.add_uint32("clip.vision.preproc_image_size", 2 * _SIDE)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    _add_encoder(writer, weights, "vision", "v", n_embd)
    weights.add("v.patch_embd.weight", _N_EMBD, 3, _PATCH, _PATCH)
    if kind is Projecting.GRID:
        weights.add("v.patch_embd.weight.1", _N_EMBD, 3, _PATCH, _PATCH)
        weights.add("mm.0.weight", 4 * _N_EMBD, 4 * _N_EMBD)
        weights.add("mm.0.bias", 4 * _N_EMBD)
        weights.add("mm.2.weight", n_embd, 4 * _N_EMBD)
        weights.add("mm.2.bias", n_embd)
        return
    weights.add("v.patch_embd.bias", _N_EMBD)
    weights.add("v.position_embd.weight", (_SIDE // _PATCH) ** 2, _N_EMBD)
    if kind is Projecting.WHOLE:
        weights.add("mm.input_projection.weight", _N_EMBD, n_embd)
        weights.add_ones("mm.soft_emb_norm.weight", _N_EMBD)
    else:
        weights.add("mm.model.fc.weight", n_embd, 4 * _N_EMBD)


def _add_ears(writer: gguf.GGUFWriter, weights: "_Weights", n_embd: int) -> None:
    num_bands, num_stacked = 80, 10
    writer.add_bool("clip.has_audio_encoder", True)
    writer.add_uint32("clip.audio.num_mel_bins", num_bands)
    writer.add_uint32("clip.audio.projector.stack_factor", num_stacked)
    _add_encoder(writer, weights, "audio", "a", n_embd)
    weights.add("a.position_embd.weight", 1500, _N_EMBD)
    weights.add("a.conv1d.1.weight", _N_EMBD, num_bands, 3, kind=np.float16)
    weights.add("a.conv1d.1.bias", _N_EMBD, 1)
    weights.add("a.conv1d.2.weight", _N_EMBD, _N_EMBD, 3, kind=np.float16)
    weights.add("a.conv1d.2.bias", _N_EMBD, 1)
    weights.add_ones("mm.a.norm_pre.weight", num_stacked * _N_EMBD)
    weights.add("mm.a.mlp.1.weight", 2 * _N_FF, num_stacked * _N_EMBD)
    weights.add_ones("mm.a.norm_mid.weight", _N_FF)
    weights.add("mm.a.mlp.2.weight", n_embd, _N_FF)


def _add_encoder(writer: gguf.GGUFWriter, weights: "_Weights", sense: str, prefix: str, n_embd: int) -> None:
    for name, value in (
        ("embedding_length", _N_EMBD),
        ("feed_forward_length", _N_FF),
        ("block_count", 1),
        ("projection_dim", n_embd),
        ("attention.head_count", _N_HEAD),
    ):
        writer.add_uint32(f"clip.{sense}.{name}", value)
    writer.add_float32(f"clip.{sense}.attention.layer_norm_epsilon", 1e-5)
    for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
        weights.add(f"{prefix}.blk.0.{name}.weight", _N_EMBD, _N_EMBD)
        if not (sense == "audio" and name == "attn_k"):
            weights.add(f"{prefix}.blk.0.{name}.bias", _N_EMBD)
    weights.add(f"{prefix}.blk.0.ffn_up.weight", _N_FF, _N_EMBD)
    weights.add(f"{prefix}.blk.0.ffn_up.bias", _N_FF)
    weights.add(f"{prefix}.blk.0.ffn_down.weight", _N_EMBD, _N_FF)
    weights.add(f"{prefix}.blk.0.ffn_down.bias", _N_EMBD)
    for name in ("blk.0.ln1", "blk.0.ln2", "post_ln"):
        weights.add_ones(f"{prefix}.{name}.weight", _N_EMBD)
        weights.add(f"{prefix}.{name}.bias", _N_EMBD)


class _Weights:
    def __init__(self, writer: gguf.GGUFWriter, chance: np.random.Generator) -> None:
        self._writer = writer
        self._chance = chance

    def add(self, name: str, *shape: int, kind: type = np.float32) -> None:
        self._writer.add_tensor(name, self._chance.normal(0, 0.3, shape).astype(kind))

    def add_ones(self, name: str, length: int) -> None:
        self._writer.add_tensor(name, np.ones(length, np.float32))


def _written(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def png(width: int = _SIDE, height: int = _SIDE, *, hue: int = 0) -> bytes:
    """A picture with a pattern that differs by `hue`."""
    rows = (
        b"\0" + bytes(value for x in range(width) for value in ((x * 8 + hue) % 256, (y * 8) % 256, hue % 256))
        for y in range(height)
    )
    return png_of(width, height, zlib.compress(b"".join(rows)))


def png_of(width: int, height: int, data: bytes) -> bytes:
    """A picture of 24 bits a pixel with this compressed data, whatever it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def wav(seconds: float = 0.5, *, pitch: int = 440) -> bytes:
    """A tone."""
    rate = 16000
    samples = (int(12000 * math.sin(2 * math.pi * pitch * index / rate)) for index in range(int(seconds * rate)))
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return file.getvalue()
