// Attention of one query to the cells of a KV cache, for ggml's CPU backend; ops.cpp includes it.
//
// ggml takes one cell after the other, and between two of them its sum of values waits in memory, as F16. Here the cells
// are taken some at a time: the products of one don't wait for the sum of the one before, and the sum stays in registers.
// Each number is made by ggml's operations in ggml's order, so the results are equal to the last bit.

#include "vec.h"

// The number of 32s of masked cells from here on. A cache that several conversations share holds mostly other ones'
// cells, and ggml looks at each cell's mask for every head of every token.
static int64_t attention_num_masked_32s(const ggml_fp16_t * mask, int64_t num_cells) {
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

// The cell at which the part of thread ith begins, when all parts have as many cells that are seen. With as many of any
// kind, as ggml has it, one thread has all the work where most cells are other conversations'.
//
// Behind the last cell that is seen, those up to the next 256th count, too: llama.cpp rounds the number of cells up like
// that, so a conversation that is alone in the cache is cut where ggml cuts it.
static int64_t attention_part(const ggml_fp16_t * mask, int64_t num_cells, int ith, int nth) {
    const auto num_seen = [&](int64_t block) {
        int num = 0;
        for (int64_t i = 32 * block; i < std::min(32 * (block + 1), num_cells); i++) {
            num += mask[i] != 0xFC00;
        }
        return num;
    };
    int64_t last = (num_cells + 31) / 32 - 1;
    while (last > 0 && num_seen(last) == 0) {
        last--;
    }
    int64_t total = std::min(256 * (last / 8 + 1), num_cells) - 32 * last;
    for (int64_t block = 0; block < last; block++) {
        total += num_seen(block);
    }
    int64_t rest = ith * ((total + nth - 1) / nth);
    if (rest >= total) {
        return num_cells;
    }
    for (int64_t block = 0; block < last; block++) {
        const int num = num_seen(block);
        if (rest <= num) {
            return 32 * block + rest;
        }
        rest -= num;
    }
    return 32 * last + rest;
}

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && !defined(__AVX512FP16__)

#define GGML_HAS_ATTENTION
#define ATTENTION_CELLS 8  // at a time
#define ATTENTION_AHEAD 16 // cells whose memory is asked for: one head's are too far apart for the processor to foresee

static inline GGML_F16_VEC attention_rounded(GGML_F16_VEC numbers) {
#if defined(__AVX512F__)
    return _mm512_cvtph_ps(_mm512_cvtps_ph(numbers, 0));
#else
    return _mm256_cvtph_ps(_mm256_cvtps_ph(numbers, 0));
#endif
}

// Adds `num` cells' values to `sum`, which fades before each. No other function is called in here, so the sum stays in
// registers.
template <int SIZE>
static __attribute__((noinline)) void attention_add(
        ggml_fp16_t * sum, int num, const float * fades, const float * weights, const char * const * values) {
    constexpr int NUM = SIZE / GGML_F16_EPR;
    GGML_F16_VEC total[NUM];
    for (int i = 0; i < NUM; i++) {
        total[i] = GGML_F16_VEC_LOAD(sum + i * GGML_F16_EPR, i);
    }
    for (int cell = 0; cell < num; cell++) {
        if (fades[cell] != 1.0f) {
#pragma unroll
            for (int i = 0; i < NUM; i++) {
                total[i] = attention_rounded(GGML_F16_VEC_MUL(total[i], GGML_F16_VEC_SET1(fades[cell])));
            }
        }
        const ggml_fp16_t * value = (const ggml_fp16_t *) values[cell];
#pragma unroll
        for (int i = 0; i < NUM; i++) {
            const GGML_F16_VEC here = GGML_F16_VEC_LOAD(value + i * GGML_F16_EPR, i);
            total[i] = attention_rounded(GGML_F16_VEC_FMA(total[i], here, GGML_F16_VEC_SET1(weights[cell])));
        }
    }
    for (int i = 0; i < NUM; i++) {
        GGML_F16_VEC_STORE(sum + i * GGML_F16_EPR, total, i);
    }
}

// The cells [first, end) of keys and values, which are `key_size` and `value_size` bytes from cell to cell. Adds to
// `sum` and `sum_of_values`, whose weights are relative to `maximum`.
template <int SIZE>
static void attention_cells(
        const ggml_fp16_t * query, const char * keys, size_t key_size, const char * values, size_t value_size,
        const ggml_fp16_t * mask, float slope, float scale, float logit_softcap, int64_t first, int64_t end,
        float & maximum, float & sum, ggml_fp16_t * sum_of_values) {
    constexpr int NUM = SIZE / GGML_F16_EPR;
    GGML_F16_VEC wanted[NUM];
    for (int i = 0; i < NUM; i++) {
        wanted[i] = GGML_F16_VEC_LOAD(query + i * GGML_F16_EPR, i);
    }
    for (int64_t cell = first; cell < end;) {
        const char * cell_keys[ATTENTION_CELLS];
        const char * cell_values[ATTENTION_CELLS];
        float scores[ATTENTION_CELLS], fades[ATTENTION_CELLS], weights[ATTENTION_CELLS];
        int num = 0;
        for (; cell < end && num < ATTENTION_CELLS; cell++) {
            const float bias = mask ? slope * GGML_CPU_FP16_TO_FP32(mask[cell]) : 0.0f;
            if (bias == -INFINITY) {
                const int64_t num_32s = attention_num_masked_32s(mask + cell, end - cell);
                cell += num_32s > 0 ? 32 * num_32s - 1 : 0;
                continue;
            }
            cell_keys[num] = keys + cell * key_size;
            cell_values[num] = values + cell * value_size;
            for (size_t i = 0; i < SIZE * sizeof(ggml_fp16_t); i += 64) {
                _mm_prefetch(cell_keys[num] + ATTENTION_AHEAD * key_size + i, _MM_HINT_T0);
                _mm_prefetch(cell_values[num] + ATTENTION_AHEAD * value_size + i, _MM_HINT_T0);
            }
            scores[num++] = bias;
        }
        for (int i = 0; i < num; i++) {
            const ggml_fp16_t * key = (const ggml_fp16_t *) cell_keys[i];
            GGML_F16_VEC products[GGML_F16_ARR] = {};
            for (int j = 0; j < NUM; j++) {
                products[j % GGML_F16_ARR] = GGML_F16_VEC_FMA(
                    products[j % GGML_F16_ARR], GGML_F16_VEC_LOAD(key + j * GGML_F16_EPR, j), wanted[j]);
            }
            float score;
            GGML_F16_VEC_REDUCE(score, products);
            score = score * scale;
            if (logit_softcap != 0.0f) {
                score = logit_softcap * tanhf(score);
            }
            scores[i] += score;
        }
        for (int i = 0; i < num; i++) {
            fades[i] = 1.0f;
            weights[i] = 1.0f;
            if (scores[i] > maximum) {
                fades[i] = expf(maximum - scores[i]);
                maximum = scores[i];
            } else {
                weights[i] = expf(scores[i] - maximum);
            }
            sum = sum * fades[i] + weights[i];
        }
        attention_add<SIZE>(sum_of_values, num, fades, weights, cell_values);
    }
}

#endif
