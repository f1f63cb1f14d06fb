"""Tiny models that tests write: encoders, one whose layers see a window only, and a LoRA adapter."""

import shutil
from pathlib import Path

import gguf
import numpy as np

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *["▁a", "▁b", "▁c", "▁d", "▁cat", "▁dog", "▁sea", "▁lamp"]]
_N_EMBD, _N_FF, _N_CTX = 32, 64, 64


def write_encoder(path: Path, *, ranks: bool = False, has_head: bool = True, says_causal: bool = True) -> Path:
    """A BERT of one layer with random weights, mean pooling, or a head for ranking.

    With `has_head` false it only claims to rank; `says_causal` false leaves out that its tokens look both ways.
    """
    chance = np.random.default_rng(7)
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny encoder")
    writer.add_context_length(_N_CTX)
    writer.add_embedding_length(_N_EMBD)
    writer.add_feed_forward_length(_N_FF)
    writer.add_block_count(1)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(1e-12)
    if says_causal:
        writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK if ranks else gguf.PoolingType.MEAN)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(_WORDS)
    writer.add_token_types([3] * 5 + [1] * (len(_WORDS) - 5))
    writer.add_token_type_count(2)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    writer.add_sep_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, chance.normal(0, 0.3, shape).astype(np.float32))

    def add_norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(_N_EMBD, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(_N_EMBD, np.float32))

    add("token_embd.weight", len(_WORDS), _N_EMBD)
    add("position_embd.weight", _N_CTX, _N_EMBD)
    add("token_types.weight", 2, _N_EMBD)
    add_norm("token_embd_norm")
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        add(f"blk.0.{name}.weight", _N_EMBD, _N_EMBD)
        add(f"blk.0.{name}.bias", _N_EMBD)
    add_norm("blk.0.attn_output_norm")
    add("blk.0.ffn_up.weight", _N_FF, _N_EMBD)
    add("blk.0.ffn_up.bias", _N_FF)
    add("blk.0.ffn_down.weight", _N_EMBD, _N_FF)
    add("blk.0.ffn_down.bias", _N_EMBD)
    add_norm("blk.0.layer_output_norm")
    if ranks and has_head:
        add("cls.weight", _N_EMBD, _N_EMBD)
        add("cls.bias", _N_EMBD)
        add("cls.output.weight", 1, _N_EMBD)
        add("cls.output.bias", 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_windowed(path: Path, *, window: int) -> Path:
    """A Gemma 3 of six layers with random weights; but for the sixth, each looks back at `window` tokens only."""
    chance = np.random.default_rng(5)
    num_heads, num_kv_heads, width = 2, 1, 64
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_context_length(1024)
    writer.add_embedding_length(_N_EMBD)
    writer.add_feed_forward_length(_N_FF)
    writer.add_block_count(6)
    writer.add_head_count(num_heads)
    writer.add_head_count_kv(num_kv_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_sliding_window(window)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*_WORDS, *(f"<0x{byte:02X}>" for byte in range(256))])
    writer.add_token_scores([0.0] * (len(_WORDS) + 256))
    writer.add_token_types([1] * len(_WORDS) + [6] * 256)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, chance.normal(0, 0.3, shape).astype(np.float32))

    def add_norm(name: str, size: int = _N_EMBD) -> None:
        writer.add_tensor(name, np.ones(size, np.float32))

    add("token_embd.weight", len(_WORDS) + 256, _N_EMBD)
    add_norm("output_norm.weight")
    for layer in range(6):
        name = f"blk.{layer}"
        for norm in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            add_norm(f"{name}.{norm}.weight")
        for norm in ("attn_q_norm", "attn_k_norm"):
            add_norm(f"{name}.{norm}.weight", width)
        add(f"{name}.attn_q.weight", num_heads * width, _N_EMBD)
        for part in ("attn_k", "attn_v"):
            add(f"{name}.{part}.weight", num_kv_heads * width, _N_EMBD)
        add(f"{name}.attn_output.weight", _N_EMBD, num_heads * width)
        for part in ("ffn_gate", "ffn_up"):
            add(f"{name}.{part}.weight", _N_FF, _N_EMBD)
        add(f"{name}.ffn_down.weight", _N_EMBD, _N_FF)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_adapter(path: Path, base: Path, *, seed: int = 3, waits_for: tuple[int, ...] = ()) -> Path:
    """An adapter of rank 4 with random weights for the attention of `base`'s first layer.

    One that `waits_for` tokens is to be applied from where a text has them (aLoRA).
    """
    chance = np.random.default_rng(seed)
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(base).tensors}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_string(gguf.Keys.Adapter.LORA_TASK_NAME, "telling")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 8.0)
    if waits_for:
        # Not add_array: that writes signed numbers, and llama.cpp wants unsigned ones.
        writer.add_key_value(
            gguf.Keys.Adapter.ALORA_INVOCATION_TOKENS,
            list(waits_for),
            gguf.GGUFValueType.ARRAY,
            sub_type=gguf.GGUFValueType.UINT32,
        )
    for name in ("blk.0.attn_q.weight", "blk.0.attn_output.weight"):
        num_in, num_out = (int(size) for size in found[name].shape[:2])
        writer.add_tensor(f"{name}.lora_a", chance.normal(0, 1, (4, num_in)).astype(np.float32))
        writer.add_tensor(f"{name}.lora_b", chance.normal(0, 1, (num_out, 4)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_with_context_length(path: Path, base: Path, n_ctx: int) -> Path:
    """A copy of a llama that says it was trained for texts of `n_ctx` tokens."""
    shutil.copyfile(base, path)
    reader = gguf.GGUFReader(path, "r+")
    found = reader.fields["llama.context_length"]
    found.parts[found.data[0]][0] = n_ctx
    return path
