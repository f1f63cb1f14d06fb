"""What becomes different in llama.cpp's sources before they are compiled, and why.

What is computed stays as it is, to the last bit, with two exceptions: one brings it to what GCC's library computes, and
attention is added up in other parts where a conversation isn't alone in the cache. It knows neither where the sources
come from nor how they are compiled.
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

# Attention that skips other conversations' cells, shares out the rest evenly among the threads, and takes several at a
# time; see kernels/attention.h.
_ATTENTION = "static void ggml_compute_forward_flash_attn_ext_f16_one_chunk(\n"
_CELLS = "        for (int64_t ic = ic_start; ic < ic_end; ++ic) {\n            const float mv = mp ?"
_MASKED = """\
            if (mv == -INFINITY) {
                continue;
            }

            float s; // KQ value
"""
_PARTS = """\
        const int64_t ic_start = ith * chunk_size;
        const int64_t ic_end   = std::min(ic_start + chunk_size, nek1);
"""
_PART = "        if (ic_start < nek1) {\n            for (int64_t q_head = 0;"
_PARTS_JOINED = "        ggml_flash_attn_ext_reduce_partials(params, dst, nth, chunk_size);\n"
_ATTENTIONS = (
    Change(f"{_CPU}/ops.cpp", _ATTENTION, '#include "attention.h"\n\n' + _ATTENTION),
    Change(
        f"{_CPU}/ops.cpp",
        _CELLS,
        """\
#ifdef GGML_HAS_ATTENTION
        const auto attend = DK != DV || k->type != GGML_TYPE_F16 || v->type != GGML_TYPE_F16 ? nullptr
                          : DK == 64 ? attention_cells<64> : DK == 128 ? attention_cells<128> : nullptr;
        if (attend) {
            attend(
                Q_q, (const char *) k->data + ik2*nbk2 + ik3*nbk3, nbk1,
                (const char *) v->data + iv2*nbv2 + iv3*nbv3, nbv1,
                mp, slope, scale, logit_softcap, ic_start, ic_end, M, S, VKQ16);
        } else
#endif
"""
        + _CELLS,
    ),
    Change(
        f"{_CPU}/ops.cpp",
        _MASKED,
        _MASKED.replace(
            "                continue;",
            "                const int64_t num_32s = attention_num_masked_32s(mp + ic, ic_end - ic);\n"
            "                ic += num_32s > 0 ? 32 * num_32s - 1 : 0;\n"
            "                continue;",
        ),
    ),
    Change(
        f"{_CPU}/ops.cpp",
        _PARTS,
        """\
        const ggml_tensor * mask = dst->src[3];
        const auto part = [&](int number) {
            return mask ? attention_part((const ggml_fp16_t *) mask->data, nek1, number, nth)
                        : std::min(number * chunk_size, nek1);
        };
        const int64_t ic_start = part(ith);
        const int64_t ic_end   = part(ith + 1);
""",
    ),
    Change(f"{_CPU}/ops.cpp", _PART, _PART.replace("ic_start < nek1", "ic_start < ic_end")),
    # No part is left out for where ggml would have it begin: one without cells says that it has none.
    Change(f"{_CPU}/ops.cpp", _PARTS_JOINED, _PARTS_JOINED.replace("chunk_size", "0")),
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

CHANGES = (_ONE_CHOICE, *_TILES, *_ATTENTIONS, _BOUNDED_SOUND)

# Files that are ours: where in llama.cpp's folder each goes.
ADDED = {f"{_CPU}/{name}": Path(__file__).with_name("kernels") / name for name in ("tiles.h", "attention.h")}


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
