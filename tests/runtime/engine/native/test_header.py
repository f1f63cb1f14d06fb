"""What a GGUF's header says of its memory, beside what llama.cpp then allocates."""

import re
from pathlib import Path

import gguf
import pytest

from runtime.engine.native import Context, Library, Model, read_shape
from runtime.errors import ModelError


@pytest.fixture(scope="module")
def library() -> Library:
    return Library()


def test_the_cache_is_as_large_as_the_header_promises(smollm2: Path) -> None:
    lines: list[str] = []
    library = Library(on_log=lines.append)
    shape = read_shape(library, smollm2, 0, smollm2.stat().st_size)
    assert (shape.n_vocab, shape.n_embd, shape.n_ff, shape.n_ctx_train) == (49152, 576, 1536, 8192)
    assert shape.weights_bytes == smollm2.stat().st_size
    model = Model(library, smollm2)
    context = Context(model, n_ctx=2048, n_batch=64, num_slots=2, num_threads=1)
    found = next(match for line in lines if (match := re.search(r"KV buffer size = +([\d.]+) MiB", line)))
    context.close()
    model.close()
    assert float(found[1]) == shape.num_kv_elements * 2 * 2048 / 2**20


def write_header(path: Path, **values: object) -> Path:
    writer = gguf.GGUFWriter(path, "odd")
    for name, value in values.items():
        key = "odd." + name.replace("__", ".")
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_uint32(key, value)  # type: ignore[arg-type]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_layers_may_differ_and_a_model_may_lie_inside_another_file(library: Library, tmp_path: Path) -> None:
    plain = write_header(
        tmp_path / "plain.gguf",
        block_count=3,
        embedding_length=64,
        attention__head_count=4,
        attention__head_count_kv=[2, 0, 1],
        feed_forward_length=[10, 30, 20],
    )
    inside = tmp_path / "inside.bin"
    inside.write_bytes(bytes(65536) + plain.read_bytes())
    shape = read_shape(library, inside, 65536, 5)
    assert shape.num_kv_elements == 3 * 2 * 16
    assert shape.n_ff == 30
    assert shape.weights_bytes == 5


def test_what_the_header_does_not_say_counts_as_nothing(library: Library, tmp_path: Path) -> None:
    shape = read_shape(library, write_header(tmp_path / "bare.gguf", block_count="many"), 0, 1)
    assert (shape.num_kv_elements, shape.n_embd, shape.n_vocab) == (0, 0, 0)


def test_a_file_that_is_no_gguf_is_a_model_error(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "text.gguf"
    path.write_text("not a model, but long enough to have a header's length in bytes")
    with pytest.raises(ModelError, match="can't load the model"):
        read_shape(library, path, 0, 1)
    with pytest.raises(ModelError, match="can't open"):
        read_shape(library, tmp_path / "none.gguf", 0, 1)
