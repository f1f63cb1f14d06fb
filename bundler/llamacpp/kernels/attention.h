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

// How many of the cells are seen. A sequence without a mask sees all of them.
static int64_t attention_num_seen(const ggml_fp16_t * mask, int64_t num_cells) {
    int64_t num = mask ? 0 : num_cells;
    for (int64_t i = 0; mask && i < num_cells; i++) {
        num += mask[i] != 0xFC00;
    }
    return num;
}

// How many cells there were if the query's conversation had the cache to itself: llama.cpp rounds up to 256. It is this
// that says whether and where ggml cuts the cells for its threads, so a conversation is cut alike wherever it lies in
// the cache and whoever lies beside it. Cut at as many cells of any kind, as ggml has it, one thread had all the work
// where most cells are other conversations'.
static int64_t attention_num_alone(const ggml_fp16_t * mask, int64_t num_cells) {
    return std::min((attention_num_seen(mask, num_cells) + 255) / 256 * 256, num_cells);
}

// The first cell that has `num_before` seen ones before it, or the end.
static int64_t attention_cut(const ggml_fp16_t * mask, int64_t num_cells, int64_t num_before) {
    if (!mask) {
        return std::min(num_before, num_cells);
    }
    int64_t cell = 0;
    for (; cell + 32 <= num_cells; cell += 32) {
        const int64_t num = attention_num_seen(mask + cell, 32);
        if (num >= num_before) {
            break;
        }
        num_before -= num;
    }
    for (; cell < num_cells && num_before > 0; cell++) {
        num_before -= mask[cell] != 0xFC00;
    }
    return cell;
}

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && !defined(__AVX512FP16__)

#define GGML_HAS_ATTENTION
#define ATTENTION_CELLS 8   // at a time
#define ATTENTION_AHEAD 16  // cells whose memory is asked for: one head's are too far apart for the processor to foresee
#define ATTENTION_WIDTH 128 // numbers to a head, at most
#define ATTENTION_MOST_HEADS 4
// Heads that look at the same cells, together: as many as have their sums in registers.
#if defined(__AVX512F__)
#define ATTENTION_HEADS(SIZE) (256 / SIZE)
#else
#define ATTENTION_HEADS(SIZE) 1
#endif

// How many of `num_rows` rows a thread takes at a time instead of `chunk_size`: whole groups of heads, unless that leaves
// threads without work.
static int64_t attention_chunk_size(int64_t chunk_size, int64_t width, int64_t heads_alike, int64_t num_rows, int nth) {
    const int64_t group = width != 64 && width != 128 ? 1 : std::min<int64_t>(heads_alike, ATTENTION_HEADS(width));
    const int64_t whole = (chunk_size + group - 1) / group * group;
    return whole * nth <= num_rows ? whole : chunk_size;
}

// What a query's head has found so far; the weights of `values` are relative to `maximum`.
struct attention_found {
    float       maximum;
    float       sum;
    ggml_fp16_t values[ATTENTION_WIDTH];
};

static inline GGML_F16_VEC attention_rounded(GGML_F16_VEC numbers) {
#if defined(__AVX512F__)
    return _mm512_cvtph_ps(_mm512_cvtps_ph(numbers, 0));
#else
    return _mm256_cvtph_ps(_mm256_cvtps_ph(numbers, 0));
#endif
}

// Adds `num` cells' values to the heads' sums, which fade before each. No other function is called in here, so the sums
// stay in registers.
template <int SIZE, int HEADS>
static __attribute__((noinline)) void attention_add(
        attention_found * found, int num, const float (* fades)[ATTENTION_CELLS],
        const float (* weights)[ATTENTION_CELLS], const char * const * values) {
    constexpr int NUM = SIZE / GGML_F16_EPR;
    GGML_F16_VEC total[HEADS][NUM];
#pragma unroll
    for (int head = 0; head < HEADS; head++) {
#pragma unroll
        for (int i = 0; i < NUM; i++) {
            total[head][i] = GGML_F16_VEC_LOAD(found[head].values + i * GGML_F16_EPR, i);
        }
    }
    for (int cell = 0; cell < num; cell++) {
        const ggml_fp16_t * value = (const ggml_fp16_t *) values[cell];
        GGML_F16_VEC here[NUM];
#pragma unroll
        for (int i = 0; i < NUM; i++) {
            here[i] = GGML_F16_VEC_LOAD(value + i * GGML_F16_EPR, i);
        }
#pragma unroll
        for (int head = 0; head < HEADS; head++) {
            if (fades[head][cell] != 1.0f) {
#pragma unroll
                for (int i = 0; i < NUM; i++) {
                    const GGML_F16_VEC faded = GGML_F16_VEC_MUL(total[head][i], GGML_F16_VEC_SET1(fades[head][cell]));
                    total[head][i] = attention_rounded(faded);
                }
            }
#pragma unroll
            for (int i = 0; i < NUM; i++) {
                const GGML_F16_VEC weight = GGML_F16_VEC_SET1(weights[head][cell]);
                total[head][i] = attention_rounded(GGML_F16_VEC_FMA(total[head][i], here[i], weight));
            }
        }
    }
#pragma unroll
    for (int head = 0; head < HEADS; head++) {
#pragma unroll
        for (int i = 0; i < NUM; i++) {
            GGML_F16_VEC_STORE(found[head].values + i * GGML_F16_EPR, total[head], i);
        }
    }
}

// The bits of 2^(i/32) for i in 0..31 as doubles, less i/32 in the exponent's place.
static const int64_t ATTENTION_POWERS[32] = {
    0x3ff0000000000000, 0x3fefd9b0d3158574, 0x3fefb5586cf9890f, 0x3fef9301d0125b51,
    0x3fef72b83c7d517b, 0x3fef54873168b9aa, 0x3fef387a6e756238, 0x3fef1e9df51fdee1,
    0x3fef06fe0a31b715, 0x3feef1a7373aa9cb, 0x3feedea64c123422, 0x3feece086061892d,
    0x3feebfdad5362a27, 0x3feeb42b569d4f82, 0x3feeab07dd485429, 0x3feea47eb03a5585,
    0x3feea09e667f3bcd, 0x3fee9f75e8ec5f74, 0x3feea11473eb0187, 0x3feea589994cce13,
    0x3feeace5422aa0db, 0x3feeb737b0cdc5e5, 0x3feec49182a3f090, 0x3feed503b23e255d,
    0x3feee89f995ad3ad, 0x3feeff76f2fb5e47, 0x3fef199bdd85529c, 0x3fef3720dcef9069,
    0x3fef5818dcfba487, 0x3fef7c97337b9b5f, 0x3fefa4afa2a490da, 0x3fefd0765b6e4540,
};

// e to the power of numbers that aren't positive, the floats that glibc's expf gives since 2.27 where it has FMA: e^x is
// 2^(k/32) * 2^(r/32) with whole k, and a polynomial of r, in doubles. Numbers and method are those of Arm's optimized
// routines, which glibc took over.
static inline __m256 attention_exp(__m256 numbers) {
    const double per_32nd = 0x1.71547652b82fep+0 * 32, to_whole = 0x1.8p+52;
    const double cubic = 0x1.c6af84b912394p-5 / 32 / 32 / 32, square = 0x1.ebfce50fac4f3p-3 / 32 / 32;
    const double linear = 0x1.62e42ff0c52d6p-1 / 32;
    const __m256 bounded = _mm256_max_ps(_mm256_set1_ps(-105.0f), numbers); // there it is 0 already; NaN stays NaN
    __m128 halves[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const __m256d x = _mm256_cvtps_pd(half ? _mm256_extractf128_ps(bounded, 1) : _mm256_castps256_ps128(bounded));
        __m256d k = _mm256_fmadd_pd(x, _mm256_set1_pd(per_32nd), _mm256_set1_pd(to_whole));
        const __m256i bits = _mm256_castpd_si256(k);
        k = _mm256_sub_pd(k, _mm256_set1_pd(to_whole));
        const __m256d r = _mm256_fmsub_pd(x, _mm256_set1_pd(per_32nd), k);
        const __m256i place = _mm256_and_si256(bits, _mm256_set1_epi64x(31));
        const __m256i power = _mm256_i64gather_epi64((const long long *) ATTENTION_POWERS, place, 8);
        const __m256d scale = _mm256_castsi256_pd(_mm256_add_epi64(power, _mm256_slli_epi64(bits, 47)));
        const __m256d upper = _mm256_fmadd_pd(r, _mm256_set1_pd(cubic), _mm256_set1_pd(square));
        const __m256d lower = _mm256_fmadd_pd(r, _mm256_set1_pd(linear), _mm256_set1_pd(1));
        const __m256d result = _mm256_fmadd_pd(upper, _mm256_mul_pd(r, r), lower);
        halves[half] = _mm256_cvtpd_ps(_mm256_mul_pd(result, scale));
    }
    return _mm256_set_m128(halves[1], halves[0]);
}

// The first of ggml's sums in GGML_F16_VEC_REDUCE, as far as 8 lanes.
static inline __m256 attention_together(const GGML_F16_VEC * products) {
    static_assert(GGML_F16_ARR == 4, "as ggml adds them up");
#if defined(__AVX512F__)
    const __m512 lanes = (products[0] + products[2]) + (products[1] + products[3]);
    const __m256 upper = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(lanes), 1));
    return _mm256_add_ps(_mm512_castps512_ps256(lanes), upper);
#else
    return (products[0] + products[2]) + (products[1] + products[3]);
#endif
}

// The others, across the lanes of each of 8 registers, in the order of GGML_F16_VEC_REDUCE.
static inline __m256 attention_across(const __m256 * lanes) {
    __m256 quarters[4], eighths[2];
    for (int i = 0; i < 4; i++) {
        const __m256 low = _mm256_permute2f128_ps(lanes[i], lanes[i + 4], 0x20);
        quarters[i] = _mm256_add_ps(low, _mm256_permute2f128_ps(lanes[i], lanes[i + 4], 0x31));
    }
#if defined(__AVX512F__)
    for (int i = 0; i < 2; i++) {
        const __m256d first = _mm256_castps_pd(quarters[2 * i]), second = _mm256_castps_pd(quarters[2 * i + 1]);
        const __m256 low = _mm256_castpd_ps(_mm256_unpacklo_pd(first, second));
        eighths[i] = _mm256_add_ps(low, _mm256_castpd_ps(_mm256_unpackhi_pd(first, second)));
    }
    return _mm256_add_ps(
        _mm256_shuffle_ps(eighths[0], eighths[1], 0x88), _mm256_shuffle_ps(eighths[0], eighths[1], 0xDD));
#else
    for (int i = 0; i < 2; i++) {
        eighths[i] = _mm256_hadd_ps(quarters[2 * i], quarters[2 * i + 1]);
    }
    return _mm256_hadd_ps(eighths[0], eighths[1]);
#endif
}

// What cells weigh by their scores, and how what was found before them fades. Scores behind the `num` first ones are
// minus infinity.
static inline void attention_weigh(attention_found & found, int num, __m256 all, float * fades, float * weights) {
    const __m256 maximum = _mm256_set1_ps(found.maximum);
    if (_mm256_movemask_ps(_mm256_cmp_ps(all, maximum, _CMP_GT_OQ)) == 0) {
        _mm256_storeu_ps(weights, attention_exp(_mm256_sub_ps(all, maximum)));
        _mm256_storeu_ps(fades, _mm256_set1_ps(1.0f));
        for (int i = 0; i < num; i++) {
            found.sum += weights[i];
        }
        return;
    }
    float scores[ATTENTION_CELLS];
    _mm256_storeu_ps(scores, all);
    for (int i = 0; i < num; i++) {
        fades[i] = 1.0f;
        weights[i] = 1.0f;
        if (scores[i] > found.maximum) {
            fades[i] = expf(found.maximum - scores[i]);
            found.maximum = scores[i];
        } else {
            weights[i] = expf(scores[i] - found.maximum);
        }
        found.sum = found.sum * fades[i] + weights[i];
    }
}

// The cells [first, end) of a cache, as a head sees them. Keys and values are so many bytes from cell to cell.
struct attention_view {
    const char *        keys;
    size_t              key_size;
    const char *        values;
    size_t              value_size;
    const ggml_fp16_t * mask;
    float               slope, scale, logit_softcap;
    int64_t             first, end;
};

// Adds what HEADS heads of a query see to what they have found.
template <int SIZE, int HEADS>
static void attention_cells(
        const ggml_fp16_t (* queries)[ATTENTION_WIDTH], const attention_view & view, attention_found * found) {
    constexpr int NUM = SIZE / GGML_F16_EPR;
    static_assert(ATTENTION_CELLS == 8, "as many as attention_exp takes");
    GGML_F16_VEC wanted[HEADS][NUM];
    for (int head = 0; head < HEADS; head++) {
        for (int i = 0; i < NUM; i++) {
            wanted[head][i] = GGML_F16_VEC_LOAD(queries[head] + i * GGML_F16_EPR, i);
        }
    }
    for (int64_t cell = view.first; cell < view.end;) {
        const char * cell_keys[ATTENTION_CELLS];
        const char * cell_values[ATTENTION_CELLS];
        float biases[ATTENTION_CELLS];
        float fades[HEADS][ATTENTION_CELLS], weights[HEADS][ATTENTION_CELLS];
        __m256 lanes[HEADS][ATTENTION_CELLS];
        int num = 0;
        for (; cell < view.end && num < ATTENTION_CELLS; cell++) {
            const float bias = view.mask ? view.slope * GGML_CPU_FP16_TO_FP32(view.mask[cell]) : 0.0f;
            if (bias == -INFINITY) {
                const int64_t num_32s = attention_num_masked_32s(view.mask + cell, view.end - cell);
                cell += num_32s > 0 ? 32 * num_32s - 1 : 0;
                continue;
            }
            cell_keys[num] = view.keys + cell * view.key_size;
            cell_values[num] = view.values + cell * view.value_size;
            for (size_t i = 0; i < SIZE * sizeof(ggml_fp16_t); i += 64) {
                _mm_prefetch(cell_keys[num] + ATTENTION_AHEAD * view.key_size + i, _MM_HINT_T0);
                _mm_prefetch(cell_values[num] + ATTENTION_AHEAD * view.value_size + i, _MM_HINT_T0);
            }
            biases[num++] = bias;
        }
        for (int i = 0; i < num; i++) {
            const ggml_fp16_t * key = (const ggml_fp16_t *) cell_keys[i];
            GGML_F16_VEC here[NUM];
#pragma unroll
            for (int j = 0; j < NUM; j++) {
                here[j] = GGML_F16_VEC_LOAD(key + j * GGML_F16_EPR, j);
            }
#pragma unroll
            for (int head = 0; head < HEADS; head++) {
                GGML_F16_VEC products[GGML_F16_ARR] = {};
#pragma unroll
                for (int j = 0; j < NUM; j++) {
                    GGML_F16_VEC & product = products[j % GGML_F16_ARR];
                    product = GGML_F16_VEC_FMA(product, here[j], wanted[head][j]);
                }
                lanes[head][i] = attention_together(products);
            }
        }
        for (int i = num; i < ATTENTION_CELLS; i++) {
            biases[i] = -INFINITY;
            for (int head = 0; head < HEADS; head++) {
                lanes[head][i] = _mm256_setzero_ps();
            }
        }
        const __m256 bias = _mm256_loadu_ps(biases);
        for (int head = 0; head < HEADS; head++) {
            __m256 scores = _mm256_mul_ps(attention_across(lanes[head]), _mm256_set1_ps(view.scale));
            if (view.logit_softcap != 0.0f) {
                for (int i = 0; i < ATTENTION_CELLS; i++) {
                    scores[i] = view.logit_softcap * tanhf(scores[i]);
                }
            }
            attention_weigh(found[head], num, _mm256_add_ps(scores, bias), fades[head], weights[head]);
        }
        attention_add<SIZE, HEADS>(found, num, fades, weights, cell_values);
    }
}

// The same for as many of a query's `num_heads` heads as go together; returns how many that are.
template <int SIZE>
static int attention_heads(
        int num_heads, const ggml_fp16_t (* queries)[ATTENTION_WIDTH], const attention_view & view,
        attention_found * found) {
    constexpr int MOST = ATTENTION_HEADS(SIZE);
    switch (std::min(num_heads, MOST)) {
        case 4: attention_cells<SIZE, std::min(4, MOST)>(queries, view, found); return 4;
        case 3: attention_cells<SIZE, std::min(3, MOST)>(queries, view, found); return 3;
        case 2: attention_cells<SIZE, std::min(2, MOST)>(queries, view, found); return 2;
        default: attention_cells<SIZE, 1>(queries, view, found); return 1;
    }
}

#endif
