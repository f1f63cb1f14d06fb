"""What becomes different in llama.cpp's sources before they are compiled, and why.

What is computed stays as it is, to the last bit; where it doesn't, the change brings it to what GCC's library computes.
It knows neither where the sources come from nor how they are compiled.
"""

from dataclasses import dataclass
from pathlib import Path

from bundler.errors import ToolchainError


@dataclass(frozen=True, slots=True)
class Change:
    """In `path`, relative to llama.cpp's folder, the text `before`, which is there once, becomes `after`."""

    path: str
    before: str
    after: str


_CPU = "ggml/src/ggml-cpu"

# GCC's discrete_distribution draws no random number when there is one value to choose from, clang's does. Mirostat
# often leaves a single token, so a seed would give another text than in a llama-server built with GCC, as most are.
_DISTRIBUTION = "    std::discrete_distribution<int> dist(probs_iterator{cur_p->data}"
_ONE_CHOICE = Change(
    "src/llama-sampler.cpp",
    _DISTRIBUTION,
    "    if (cur_p->size == 1) {\n        return 0;\n    }\n" + _DISTRIBUTION,
)

# Tiles for types that have none, or slow ones; see kernels/tiles.h. Where they are faster, those there are stand aside.
_CHUNK = "static void ggml_compute_forward_mul_mat_one_chunk(\n"
_BLOCKS = """\
    // block-tiling attempt
    const int64_t blck_0 = 16;
    const int64_t blck_1 = 16;

    const size_t src1_col_stride"""
_Q8_0 = """\
        if (Btype != GGML_TYPE_Q8_0)
           return false;
#if defined(__AVX2__) || defined(__AVX512F__) || defined(__AVX__)
"""
_TILES = (
    Change(f"{_CPU}/ggml-cpu.c", _CHUNK, '#include "tiles.h"\n\n' + _CHUNK),
    Change(
        f"{_CPU}/ggml-cpu.c",
        _BLOCKS,
        "#ifdef GGML_HAS_TILES\n"
        "    if (tile_mul_mat_one_chunk(dst, wdata, row_size, ir0_start, ir0_end, ir1_start, ir1_end)) {\n"
        "        return;\n"
        "    }\n"
        "#endif\n\n" + _BLOCKS,
    ),
    Change(
        f"{_CPU}/llamafile/sgemm.cpp",
        _Q8_0,
        _Q8_0.replace(
            "#if defined(__AVX2__)",
            "#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)\n"
            "        return false;\n"
            "#elif defined(__AVX2__)",
        ),
    ),
)

# The cells of a KV cache that several conversations share are mostly other conversations': attention looks at each
# cell's mask for every head of every token. Looking at 32 of them at once makes a full cache cheap.
_ATTENTION = "static void ggml_compute_forward_flash_attn_ext_f16_one_chunk(\n"
_MASKED = """\
            if (mv == -INFINITY) {
                continue;
            }

            float s; // KQ value
"""
_MASKED_RUNS = (
    Change(
        f"{_CPU}/ops.cpp",
        _ATTENTION,
        """\
// The number of 32s of masked cells from here on.
static int64_t ggml_num_masked_32s(const ggml_fp16_t * mask, int64_t num_cells) {
    int64_t num_32s = 0;
    for (; 32 * (num_32s + 1) <= num_cells; num_32s++) {
        unsigned difference = 0;
        for (int i = 0; i < 32; i++) {
            difference |= mask[32 * num_32s + i] ^ 0xFC00u; // minus infinity
        }
        if (difference != 0) {
            break;
        }
    }
    return num_32s;
}

"""
        + _ATTENTION,
    ),
    Change(
        f"{_CPU}/ops.cpp",
        _MASKED,
        _MASKED.replace(
            "                continue;",
            "                const int64_t num_32s = ggml_num_masked_32s(mp + ic, ic_end - ic);\n"
            "                ic += num_32s > 0 ? 32 * num_32s - 1 : 0;\n"
            "                continue;",
        ),
    ),
)

# A sound of a few bytes can claim to last for years, and asking for so much memory would end the process; one without
# any length would by an assertion. Both are refused, as what can't be decoded is.
_SOUND = "    pcmf32_mono.resize(frame_count);"
_BOUNDED_SOUND = Change(
    "tools/mtmd/mtmd-helper.cpp",
    _SOUND,
    "    if (frame_count / target_sampler_rate > 3600 || frame_count < 160) {\n"
    "        ma_decoder_uninit(&decoder);\n"
    "        return false;\n"
    "    }\n" + _SOUND,
)

CHANGES = (_ONE_CHOICE, *_TILES, *_MASKED_RUNS, _BOUNDED_SOUND)

# Files that are ours: where in llama.cpp's folder each goes.
ADDED = {f"{_CPU}/tiles.h": Path(__file__).with_name("kernels") / "tiles.h"}


def identity() -> list[str]:
    """All that the changes depend on, for a cache's key."""
    texts = [text for change in CHANGES for text in (change.path, change.before, change.after)]
    return texts + [text for path, file in ADDED.items() for text in (path, file.read_text(encoding="utf-8"))]


def apply(sources: Path) -> None:
    """Make the changes in llama.cpp's folder. Raises ToolchainError when its files aren't what they were made for."""
    for change in CHANGES:
        path = sources / change.path
        text = path.read_text(encoding="utf-8")
        if text.count(change.before) != 1:
            raise ToolchainError(f"{change.path} has changed: look whether what CHANGES does to it is still needed")
        path.write_text(text.replace(change.before, change.after), encoding="utf-8")
    for name, file in ADDED.items():
        (sources / name).write_bytes(file.read_bytes())
