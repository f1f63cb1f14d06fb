"""What becomes different in llama.cpp's sources before they are compiled, and why.

What is computed stays as it is, to the last bit, with two exceptions: one brings it to what GCC's library computes, and
attention to a few of many cells is added up as if the others, of another conversation or outside a sliding window,
weren't there. It knows neither where the sources come from nor how they are compiled.
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
_DOTS = (
    "                for (int64_t ir0 = iir0; ir0 < iir0 + blck_0 && ir0 < ir0_end; ir0 += num_rows_per_vec_dot) {\n"
    "                    vec_dot(ne00, &tmp[ir0 - iir0],"
)
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
        f"{_CPU}/ggml-cpu.c",
        _DOTS,
        _DOTS.replace(
            "{\n",
            "{\n"
            "                    if (ir1 == ir1_start) {\n"
            "                        const size_t num_bytes = ggml_row_size(src0->type, ne00);\n"
            "                        tile_ask_ahead(src0_row + ir0 * nb01, num_rows_per_vec_dot * num_bytes);\n"
            "                    }\n",
        ),
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
_ROWS = """\
    for (int ir = ir0; ir < ir1; ++ir) {
        // q indices
        const int iq3 = ir/(neq2*neq1);
        const int iq2 = (ir - iq3*neq2*neq1)/neq1;
        const int iq1 = (ir - iq3*neq2*neq1 - iq2*neq1);
"""
_CELLS = "        for (int64_t ic = ic_start; ic < ic_end; ++ic) {\n            const float mv = mp ?"
_MASKED = """\
            if (mv == -INFINITY) {
                continue;
            }

            float s; // KQ value
"""
_SPLIT = (
    "    const bool use_split_kv_path = !use_ref && (neq1 == 1 && neq3 == 1) && kv_is_f32_or_f16"
    " && (k->type == v->type) && q->type == GGML_TYPE_F32 && nek1 >= 512;"
)
_PARTS_SIZE = "        const int64_t chunk_size = (nek1 + nth - 1) / nth;\n"
_PARTS = """\
        const int64_t ic_start = ith * chunk_size;
        const int64_t ic_end   = std::min(ic_start + chunk_size, nek1);
"""
_PART = """\
        if (ic_start < nek1) {
            for (int64_t q_head = 0; q_head < neq2; q_head++) {
                ggml_compute_forward_flash_attn_ext_f16_one_chunk(
                    params, dst, q_head, q_head + 1, ic_start, ic_end,
                    chunk_partials, partial_stride);
            }
"""
_SHARE = """\
        const int64_t dr = (nr + nchunk - 1) / nchunk;

        static constexpr int64_t Q_TILE_SZ  = ggml_fa_tile_config::Q;
"""
_ATTENTIONS = (
    Change(f"{_CPU}/ops.cpp", _ATTENTION, '#include "attention.h"\n\n' + _ATTENTION),
    Change(  # a query's heads one after the other, not a head's queries
        f"{_CPU}/ops.cpp",
        _ROWS,
        """\
#ifdef GGML_HAS_ATTENTION
    const auto attend = DK != DV || k->type != GGML_TYPE_F16 || v->type != GGML_TYPE_F16 ? nullptr
                      : DK == 64 ? attention_heads<64> : DK == 128 ? attention_heads<128> : nullptr;
    ggml_fp16_t queries[ATTENTION_MOST_HEADS][ATTENTION_WIDTH];
    attention_found found[ATTENTION_MOST_HEADS];
    int first_found = ir0, end_found = ir0;
#endif
"""
        + _ROWS.replace("iq2 = (ir - iq3*neq2*neq1)/neq1", "iq1 = (ir - iq3*neq2*neq1)/neq2").replace(
            "iq1 = (ir - iq3*neq2*neq1 - iq2*neq1)", "iq2 = (ir - iq3*neq2*neq1 - iq1*neq2)"
        ),
    ),
    Change(
        f"{_CPU}/ops.cpp",
        _CELLS,
        """\
#ifdef GGML_HAS_ATTENTION
        if (attend) {
            if (ir == end_found) { // its heads that follow, too, if they look at the same keys and values
                const bool see_alike = max_bias == 0.0f && (!mask || mask->ne[2] == 1);
                const int64_t num_like_it = see_alike ? std::min(rk2 - iq2 % rk2, rv2 - iq2 % rv2) : 1;
                const int num_heads = std::min({(int) num_like_it, ir1 - ir, ATTENTION_MOST_HEADS});
                for (int i = 0; i < num_heads; i++) {
                    q_to_vec_dot((const float *) ((const char *) pq + i * nbq2), queries[i], DK);
                    found[i] = {-INFINITY, 0.0f, {}};
                }
                const attention_view view = {
                    (const char *) k->data + ik2*nbk2 + ik3*nbk3, nbk1,
                    (const char *) v->data + iv2*nbv2 + iv3*nbv3, nbv1,
                    mp, slope, scale, logit_softcap, ic_start, ic_end};
                first_found = ir;
                end_found = ir + attend(num_heads, queries, view, found);
            }
            M = found[ir - first_found].maximum;
            S = found[ir - first_found].sum;
            memcpy(VKQ16, found[ir - first_found].values, DV*sizeof(ggml_fp16_t));
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
        _SPLIT,
        "    const ggml_tensor * mask = dst->src[3];\n"
        "    const ggml_fp16_t * seen = mask && mask->ne[2] == 1 ? (const ggml_fp16_t *) mask->data : nullptr;\n"
        + _SPLIT.replace("nek1 >= 512", "attention_num_alone(seen, nek1) >= 512"),
    ),
    Change(f"{_CPU}/ops.cpp", _PARTS_SIZE, _PARTS_SIZE.replace("nek1", "attention_num_alone(seen, nek1)")),
    Change(
        f"{_CPU}/ops.cpp",
        _PARTS,
        """\
        const int64_t ic_start = attention_cut(seen, nek1, ith * chunk_size);
        const int64_t ic_end   = attention_cut(seen, nek1, (ith + 1) * chunk_size);
""",
    ),
    Change(
        f"{_CPU}/ops.cpp",
        _PART,
        """\
        if (ic_start < ic_end) {
            ggml_compute_forward_flash_attn_ext_f16_one_chunk(
                params, dst, 0, neq2, ic_start, ic_end, chunk_partials, partial_stride);
""",
    ),
    Change(  # a query's heads that look at the same keys and values, to one thread
        f"{_CPU}/ops.cpp",
        _SHARE,
        _SHARE.replace("const int64_t dr", "int64_t dr")
        + """\
#ifdef GGML_HAS_ATTENTION
        if (neq1 < Q_TILE_SZ) {
            dr = attention_chunk_size(dr, DK, neq2 / nek2, nr, nth);
        }
#endif
""",
    ),
)

# A conversation's cells lie together and in order; see kernels/cells.h.
_INCLUDES = '#include "llama-context.h"\n\n#include <algorithm>\n'
_SEARCH = "        uint32_t head_cur = v_heads[seq_to_stream[seq_id]];\n"
_ORDER = (
    Change("src/llama-kv-cache.cpp", _INCLUDES, '#include "cells.h"\n' + _INCLUDES),
    Change(
        "src/llama-kv-cache.cpp",
        _SEARCH,
        """\
        if (!cont) {
            const auto next_of = [&](llama_seq_id id) {
                const auto & own = cells.seq_pos_get(id);
                return own.empty() ? 0 : own.rbegin()->second + 1;
            };
            const auto is_empty = [&](uint32_t idx) { return cells.is_empty(idx); };
            const auto is_passed = [&](uint32_t idx) {
                return cells.seq_count(idx) == 1 && llama_hparams::is_masked_swa(
                    n_swa, swa_type, cells.pos_get(idx), cells.seq_pos_max(cells.seq_get(idx)) + 1);
            };
            if (!cells_find(
                    res.idxs[s], ubatch.seq_id, s * n_tokens, n_tokens, cells.size(), next_of, is_empty, is_passed)) {
                return { };
            }
            continue;
        }

"""
        + _SEARCH,
    ),
)

# A word's tokens are remembered; see kernels/words.h. So they are told word by word, not all at the end.
_VOCAB = "src/llama-vocab.cpp"
_VOCAB_INCLUDES = '#include "unicode.h"\n\n#include <algorithm>\n#include <cassert>\n#include <cctype>\n'
_TOKENIZER = "struct llm_tokenizer_bpe : llm_tokenizer {\n"
_WORD = """\
        for (const auto & word : word_collection) {
            work_queue = llm_bigram_bpe::queue();
"""
_WORDS_DONE = "        }\n\n        symbols = symbols_final;\n"
_TOKENS_TOLD = """\
                    output.push_back(token);
                }
            }
        }
    }

private:
    void add_new_bigram(int left, int right) {
        if (left == -1 || right == -1) {
            return;
        }
        std::string left_token  = std::string(symbols[left].text,  symbols[left].n);
        std::string right_token = std::string(symbols[right].text, symbols[right].n);

        int rank_found = -1;

        rank_found = vocab.find_bpe_rank("""
_WORDS = (
    Change(_VOCAB, _VOCAB_INCLUDES, _VOCAB_INCLUDES.replace('"unicode.h"\n', '"unicode.h"\n#include "words.h"\n')),
    Change(_VOCAB, _TOKENIZER, _TOKENIZER + "    mutable words_known known;\n\n"),
    Change(
        _VOCAB,
        _WORD,
        _WORD.replace(
            "{\n",
            """{
            if (tokenizer.known.find(word, output)) {
                continue;
            }
            const size_t first_token = output.size();
            symbols_final.clear();
            final_prev_index = -1;
""",
        ),
    ),
    Change(_VOCAB, _WORDS_DONE, _WORDS_DONE.replace("        }\n\n", "")),
    Change(
        _VOCAB,
        _TOKENS_TOLD,
        _TOKENS_TOLD.replace(
            "        }\n    }\n\nprivate:",
            "        }\n        tokenizer.known.add(word, output, first_token);\n        }\n    }\n\nprivate:",
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

CHANGES = (_ONE_CHOICE, *_TILES, *_ATTENTIONS, *_ORDER, *_WORDS, _BOUNDED_SOUND)

# Files that are ours: where in llama.cpp's folder each goes.
_KERNELS = Path(__file__).with_name("kernels")
ADDED = {
    f"{_CPU}/tiles.h": _KERNELS / "tiles.h",
    f"{_CPU}/attention.h": _KERNELS / "attention.h",
    "src/cells.h": _KERNELS / "cells.h",
    "src/words.h": _KERNELS / "words.h",
}


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
