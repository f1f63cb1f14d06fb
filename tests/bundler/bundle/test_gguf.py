import struct
from pathlib import Path

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.bundle.gguf import BLOCK_SIZES, QUANTIZATIONS, ModelFacts, read_facts, read_projector_facts
from bundler.errors import GGUFError
from tests.bundler.models import write_model
from tests.tiny_projectors import Projecting, write_projector


def header(*, version: int = 3, num_tensors: int = 0, num_entries: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_entries)


def entry(key: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


def test_a_model_tells_its_facts(model: Path) -> None:
    assert read_facts(model) == ModelFacts(
        architecture="llama",
        name="Tiny",
        description="A model for tests",
        license="mit",
        quantization="Q4_1",
        n_params=2 * 3 * 32,
        n_ctx_train=2048,
        n_embd=32,
        n_vocab=3,
        has_chat_template=True,
    )


def test_a_model_without_a_chat_template_says_so(tmp_path: Path) -> None:
    assert not read_facts(write_model(tmp_path / "m.gguf", chat_template=None)).has_chat_template


def test_block_sizes_are_those_of_the_gguf_package() -> None:
    assert {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()} == BLOCK_SIZES


def test_quantization_names_are_those_of_the_gguf_package() -> None:
    names = {int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in gguf.LlamaFileType}
    assert {kind: name for kind, name in names.items() if name != "GUESSED"} == QUANTIZATIONS


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"tensors": ()}, "no weights"),
        ({"tensors": ("rope_freqs.weight",)}, "no weights"),
        ({"split_count": 3}, "part 1 of 3 of a split model"),
        ({"kind": "adapter"}, "LoRA adapter"),
        ({"kind": "mmproj"}, "projector"),
        ({"kind": "imatrix"}, "importance matrix"),
        ({"architecture": "clip"}, "projector"),
        ({"endianess": gguf.GGUFEndian.BIG}, "big-endian"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else next(iter(value)),
)
def test_a_gguf_that_is_no_usable_model_is_refused(tmp_path: Path, written: dict[str, object], message: str) -> None:
    path = write_model(tmp_path / "m.gguf", **written)  # type: ignore[arg-type]
    with pytest.raises(GGUFError, match=message):
        read_facts(path)


def test_a_projector_tells_what_it_is_for(tmp_path: Path) -> None:
    seeing = write_projector(tmp_path / "mmproj-a.gguf", Projecting.GRID)
    hearing = write_projector(tmp_path / "mmproj-b.gguf", Projecting.SOUND)
    assert read_projector_facts(seeing).media == ("pictures",)
    assert read_projector_facts(hearing).media == ("sounds",)


def test_what_is_no_projector_or_only_a_part_of_one_is_refused(tmp_path: Path, model: Path) -> None:
    with pytest.raises(GGUFError, match=r"not a projector; those are named mmproj-\*.gguf"):
        read_projector_facts(model)
    whole = write_projector(tmp_path / "mmproj.gguf", Projecting.WHOLE)
    whole.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(GGUFError, match="truncated"):
        read_projector_facts(whole)
    with pytest.raises(GGUFError, match="neither pictures nor sounds"):
        read_projector_facts(write_model(tmp_path / "m.gguf", architecture="clip"))
    with pytest.raises(GGUFError, match="can't be read"):
        read_projector_facts(tmp_path / "none.gguf")


def test_a_model_that_says_it_has_one_part_is_whole(tmp_path: Path) -> None:
    assert read_facts(write_model(tmp_path / "m.gguf", split_count=1)).name == "Tiny"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a GGUF"),
        (b"GGU", "not a GGUF"),
        (b"PK\x03\x04" * 10, "not a GGUF"),
        (b"GGUF", "truncated"),
        (header(version=1) + bytes(100), "version 1"),
        (header(version=4) + bytes(100), "version 4"),
        (header(num_tensors=1 << 60), "don't fit"),
        (header(num_entries=1 << 62) + bytes(1000), "don't fit"),
        (header(num_entries=1) + struct.pack("<Q", 1 << 50) + bytes(20), "truncated or damaged"),
        (header(num_entries=1) + entry("k", 9, struct.pack("<IQ", 4, 1 << 60)), "truncated or damaged"),
        (header(num_entries=1) + entry("k", 9, struct.pack("<IQ", 8, 1 << 40)), "truncated or damaged"),
        (header(num_entries=1) + entry("k", 9, struct.pack("<IQ", 9, 1) * 9), "unknown array type 9"),
        (header(num_entries=1) + entry("k", 77, bytes(8)), "unknown value type 77"),
        (header(num_entries=1) + entry("k", 4, bytes(4)), "names no architecture"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_a_damaged_header_costs_nothing_and_says_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(GGUFError, match=message):
        read_facts(path)


def test_every_truncation_is_refused(tmp_path: Path, model: Path) -> None:
    content = model.read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in [*range(0, len(content) - 1, 97), len(content) - 1]:
        cut.write_bytes(content[:length])
        with pytest.raises(GGUFError, match="truncated" if length >= 4 else "not a GGUF"):
            read_facts(cut)


@settings(max_examples=200)
@given(st.data())
def test_damage_is_read_or_refused_but_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    good = tmp_path_factory.getbasetemp() / "damage.gguf"
    if not good.exists():
        write_model(good)
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    bad = good.with_name("damaged.gguf")
    bad.write_bytes(content)
    try:
        read_facts(bad)
    except GGUFError as error:
        assert len(str(error).splitlines()) == 1


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match="can't be read"):
        read_facts(tmp_path / "none.gguf")
