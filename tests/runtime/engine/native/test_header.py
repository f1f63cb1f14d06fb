"""What a GGUF's header says of its memory, beside what llama.cpp then allocates."""

import re
from pathlib import Path

import gguf
import pytest

from bundler.bundle.gguf import read_facts
from bundler.errors import GGUFError
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
        elif isinstance(value, float):
            writer.add_float32(key, value)
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


WRONG_NUMBERS = [
    ({"block_count": 0}, "its block_count is 0"),
    ({"block_count": 513}, "its block_count is 513, and 512 is the most"),
    ({"block_count": 2**32 - 1}, "its block_count is 4294967295"),
    ({"context_length": 0}, "its context_length is 0"),
    ({"embedding_length": 0}, "its embedding_length is 0"),
    ({"attention__layer_norm_rms_epsilon": float("nan")}, "its attention.layer_norm_rms_epsilon is nan"),
    ({"attention__layer_norm_epsilon": -1.0}, "its attention.layer_norm_epsilon is -1"),
    ({"attention__layer_norm_epsilon": float("inf")}, "its attention.layer_norm_epsilon is inf"),
    ({"block_count": 4, "nextn_predict_layers": 5}, "its nextn_predict_layers are 5 of 4 layers"),
    ({"expert_count": 1025, "expert_used_count": 1}, "its expert_count is 1025, and 1024 is the most"),
    ({"expert_count": 8, "expert_used_count": 9}, "its expert_used_count is 9 of 8 experts"),
    ({"expert_count": 8, "expert_used_count": 0}, "its expert_used_count is 0 of 8 experts"),
    ({"expert_used_count": 2}, "its expert_used_count is 2 of 0 experts"),
    ({"expert_count": 8, "expert_used_count": 2, "expert_group_count": 3}, "8 experts can't be parted into 3 groups"),
    ({"expert_count": 8, "expert_group_count": 8}, "8 experts can't be parted into 8 groups"),
    ({"expert_group_count": 2}, "0 experts can't be parted into 2 groups"),
    ({"expert_count": 8, "expert_group_count": 2, "expert_group_used_count": 2}, "expert_group_used_count is 2 of 2"),
    ({"expert_count": 8, "expert_group_count": 2}, "expert_group_used_count is 0 of 2 groups"),
]


@pytest.mark.parametrize(("values", "fault"), WRONG_NUMBERS, ids=[fault for _values, fault in WRONG_NUMBERS])
def test_numbers_that_llama_cpp_would_end_over_are_refused(
    library: Library, tmp_path: Path, values: dict[str, object], fault: str
) -> None:
    path = write_header(tmp_path / "wrong.gguf", **values)
    with pytest.raises(ModelError, match=f"this model can't be used: .*{fault}"):
        read_shape(library, path, 0, 1)
    with pytest.raises(GGUFError, match=f"this model can't be used: .*{fault}"):
        read_facts(path)


@pytest.mark.parametrize(
    "values",
    [
        {"block_count": 512},
        {"expert_count": 0, "expert_used_count": 0},
        {"expert_count": 8, "expert_used_count": [2, 0, 4]},
        {"expert_count": 8, "expert_used_count": 8, "expert_group_count": 1, "expert_group_used_count": 1},
        {"expert_count": 8, "expert_used_count": 1, "expert_group_count": 4, "expert_group_used_count": 3},
        {"attention__layer_norm_epsilon": 0.0},
    ],
    ids=lambda values: str(values),
)
def test_numbers_at_the_edge_are_taken(library: Library, tmp_path: Path, values: dict[str, object]) -> None:
    read_shape(library, write_header(tmp_path / "edge.gguf", **values), 0, 1)
