from pathlib import Path

import pytest

from runtime.engine.policy.memory import Memory, choose_n_ctx, context_bytes, read_memory
from runtime.engine.values.facts import ModelShape, num_kv_elements
from runtime.errors import NotEnoughMemory

GB = 10**9
# 7 billion parameters in four bits: 128 KB of keys and values a token
SHAPE = ModelShape(
    weights_bytes=4 * GB, n_ctx_train=32768, n_vocab=32000, n_embd=4096, n_ff=14336, num_kv_elements=65536
)


def choose(wanted: int | None, memory: Memory | None, shape: ModelShape = SHAPE) -> int:
    return choose_n_ctx(wanted, 8192, shape, memory, n_batch=512, num_slots=8)


def test_keys_and_values_are_counted_over_all_layers_that_have_heads() -> None:
    assert num_kv_elements([8, 0, 8], 128, 64) == 2 * 8 * 192


def test_latent_attention_keeps_one_vector_a_layer() -> None:
    assert num_kv_elements([16] * 4, 192, 128, n_latent=576) == 4 * 576


def test_layers_with_a_window_are_not_counted_as_if_they_kept_everything() -> None:
    assert num_kv_elements([4] * 12, 64, 64, is_windowed=True) == 2 * 4 * 128


def test_a_projector_takes_memory_that_the_context_could_have_had() -> None:
    memory = Memory(8 * GB, int(5.2 * GB))
    without, beside = (
        choose_n_ctx(None, 8192, SHAPE, memory, n_batch=512, num_slots=8, projector_bytes=size) for size in (0, GB // 2)
    )
    assert (without, beside) == (4096, 2048)


def test_the_cache_is_what_grows_with_the_context() -> None:
    grown = context_bytes(SHAPE, 8192, 512, 8) - context_bytes(SHAPE, 4096, 512, 8)
    assert grown >= 4096 * 65536 * 2
    assert grown < 1.1 * 4096 * 65536 * 2


@pytest.mark.parametrize(
    ("wanted", "memory", "n_ctx"),
    [
        pytest.param(None, Memory(64 * GB, 60 * GB), 8192, id="default where there is room"),
        pytest.param(None, None, 8192, id="default where the system does not tell"),
        pytest.param(None, Memory(8 * GB, int(5.2 * GB)), 4096, id="default made smaller"),
        pytest.param(None, Memory(8 * GB, int(3.5 * GB)), 8192, id="weights that are read again and again are no end"),
        pytest.param(0, Memory(64 * GB, 60 * GB), 32768, id="0 is the model's maximum"),
        pytest.param(20000, Memory(64 * GB, 60 * GB), 20000, id="what was asked for"),
    ],
)
def test_the_context(wanted: int | None, memory: Memory | None, n_ctx: int) -> None:
    assert choose(wanted, memory) == n_ctx


def test_a_short_model_has_a_short_default() -> None:
    short = ModelShape(weights_bytes=GB, n_ctx_train=2048, n_vocab=1, n_embd=1, n_ff=1, num_kv_elements=1)
    assert choose(None, Memory(64 * GB, 60 * GB), short) == 2048


def test_a_context_that_can_not_be_had_is_refused_with_the_numbers_and_one_that_can() -> None:
    with pytest.raises(NotEnoughMemory, match=r"context of 32768 .* about 8\.\d GB .* 3\.0 GB free; try -c 16384"):
        choose(0, Memory(8 * GB, 3 * GB))


def test_where_nothing_fits_no_number_is_given() -> None:
    with pytest.raises(NotEnoughMemory, match="close other programs, or take a smaller model"):
        choose(None, Memory(3 * GB, 2 * GB))


def test_what_is_advised_is_then_accepted() -> None:
    memory = Memory(16 * GB, 3 * GB)
    with pytest.raises(NotEnoughMemory) as caught:
        choose(10**9, memory)
    assert caught.value.fitting_n_ctx is not None
    assert choose(caught.value.fitting_n_ctx, memory) == caught.value.fitting_n_ctx


def write(path: Path, text: str | int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    write(
        tmp_path / "meminfo", "MemTotal:  8000000 kB\nMemFree:  100 kB\nMemAvailable:  6000000 kB\nHugePages_Total: 0"
    )
    return tmp_path / "meminfo"


def test_the_computer_s_own_figures(meminfo: Path, tmp_path: Path) -> None:
    assert read_memory(meminfo, tmp_path / "none") == Memory(8000000 * 1024, 6000000 * 1024)


def test_a_container_s_limit_counts_and_its_page_cache_is_free(meminfo: Path, tmp_path: Path) -> None:
    write(tmp_path / "v2/memory.max", 2 * GB)
    write(tmp_path / "v2/memory.current", GB + 300)
    write(tmp_path / "v2/memory.stat", "anon 1\nfile 200")
    assert read_memory(meminfo, tmp_path / "v2") == Memory(2 * GB, GB - 100)
    for name, value in (("limit_in_bytes", 2 * GB), ("usage_in_bytes", GB), ("stat", "total_cache 100")):
        write(tmp_path / f"v1/memory/memory.{name}", value)
    assert read_memory(meminfo, tmp_path / "v1") == Memory(2 * GB, GB + 100)


def test_a_container_without_a_limit_has_the_computer_s(meminfo: Path, tmp_path: Path) -> None:
    write(tmp_path / "v2/memory.max", "max")
    assert read_memory(meminfo, tmp_path / "v2") == Memory(8000000 * 1024, 6000000 * 1024)


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert read_memory(tmp_path / "none", tmp_path) is None
    write(tmp_path / "meminfo", "nonsense")
    assert read_memory(tmp_path / "meminfo", tmp_path) is None
