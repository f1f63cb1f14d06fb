"""Small GGUF files written by the `gguf` package, the oracle for our reader."""

from pathlib import Path

import gguf
import numpy

CHAT_TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def write_model(
    path: Path,
    *,
    tensors: tuple[str, ...] = ("token_embd.weight", "blk.0.attn_q.weight"),
    architecture: str = "llama",
    kind: str = "model",
    split_count: int = 0,
    chat_template: str | None = CHAT_TEMPLATE,
    endianess: gguf.GGUFEndian = gguf.GGUFEndian.LITTLE,
) -> Path:
    """Write a model of a few KB that has everything but sense."""
    writer = gguf.GGUFWriter(path, architecture, endianess=endianess)
    writer.add_type(kind)
    writer.add_name("Tiny")
    writer.add_description("A model for tests")
    writer.add_license("mit")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_1)
    writer.add_context_length(2048)
    writer.add_embedding_length(32)
    writer.add_token_list(["<s>", "</s>", "ä" * 3000])
    writer.add_token_scores([0.0, -1.0, -2.0])
    if split_count:
        writer.add_uint16("split.no", 0)
        writer.add_uint16("split.count", split_count)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    for number, name in enumerate(tensors):
        writer.add_tensor(name, numpy.full((3, 32), number, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
