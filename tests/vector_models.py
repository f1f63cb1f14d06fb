"""Tiny models that tests write: an encoder that gives vectors, one that ranks, and an adapter."""

from pathlib import Path

import gguf
import numpy as np

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *["▁a", "▁b", "▁c", "▁d", "▁cat", "▁dog", "▁sea", "▁lamp"]]
_N_EMBD, _N_FF, _N_CTX = 32, 64, 64


def write_encoder(path: Path, *, ranks: bool = False) -> Path:
    """A BERT of one layer with random weights, mean pooling, or a head for ranking."""
    chance = np.random.default_rng(7)
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny encoder")
    writer.add_context_length(_N_CTX)
    writer.add_embedding_length(_N_EMBD)
    writer.add_feed_forward_length(_N_FF)
    writer.add_block_count(1)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(1e-12)
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
    if ranks:
        add("cls.weight", _N_EMBD, _N_EMBD)
        add("cls.bias", _N_EMBD)
        add("cls.output.weight", 1, _N_EMBD)
        add("cls.output.bias", 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
