// Weights times activations, for ggml's CPU backend; ggml-cpu.c includes it.
//
// ggml multiplies matrices of most types in tiles, where a weight that is unpacked once serves many columns. Q4_1 it
// takes one dot product at a time, and Q8_0 in registers of 256 bits. These are the tiles for both, and a single column
// times some rows at once. The sums are made of the same numbers in the same order as ggml's (8 lanes over the blocks,
// then across, then the minimums), so the results are equal to the last bit, however many columns there are.

#define TILE_AHEAD 8192 // bytes

// Asks for the memory that lies some rows behind these bytes. Where rows are short, or a few are read side by side, the
// processor doesn't foresee what comes.
static inline void tile_ask_ahead(const char * bytes, size_t num_bytes) {
    for (size_t i = 0; i < num_bytes; i += 64) {
        __builtin_prefetch(bytes + TILE_AHEAD + i);
    }
}

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#include <immintrin.h>

#define TILE_COLUMNS 4 // with its rows, as many sums as the registers hold
#define TILE_INLINE static inline __attribute__((always_inline))

// Adds up 8 lanes in the order of ggml's hsum_float_8.
TILE_INLINE float tile_across(__m256 lanes) {
    __m128 sum = _mm_add_ps(_mm256_extractf128_ps(lanes, 1), _mm256_castps256_ps128(lanes));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

// The two 16 bits at a block's beginning.
TILE_INLINE __m128 tile_head(const char * block) {
    int32_t head;
    memcpy(&head, block, sizeof(head));
    return _mm_cvtph_ps(_mm_set1_epi32(head));
}

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)

#define TILE_HAS_Q8_0
#define TILE_ROWS 8
#define TILE_PAIRS (TILE_ROWS / 2)

// Adds the products of four neighbours each, the weights without sign, to `start`.
TILE_INLINE __m256i tile_dots(__m256i start, __m256i weights, __m256i values) {
    return _mm256_dpbusd_epi32(start, weights, values);
}

// A register of 512 bits holds two rows, each in its half.
TILE_INLINE __m512i tile_both(const void * first, const void * second) {
    const __m512i low = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *) first));
    return _mm512_inserti64x4(low, _mm256_loadu_si256((const __m256i *) second), 1);
}

TILE_INLINE __m512 tile_spread(__m256 of_rows, int pair) {
    const __m512i halves = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m512i rows = _mm512_add_epi32(halves, _mm512_set1_epi32(2 * pair));
    return _mm512_permutexvar_ps(rows, _mm512_castps256_ps512(of_rows));
}

// 32 bits of each row. A gather would do the same, slowly.
TILE_INLINE __m256i tile_heads(const char * x, size_t row_size) {
    int32_t heads[TILE_ROWS];
    for (int row = 0; row < TILE_ROWS; row++) {
        memcpy(&heads[row], x + row * row_size, sizeof(int32_t));
    }
    return _mm256_set_epi32(heads[7], heads[6], heads[5], heads[4], heads[3], heads[2], heads[1], heads[0]);
}

TILE_INLINE void tile_store(__m512 sums[TILE_PAIRS], __m256 minimums, float * out) {
    float rest[TILE_ROWS];
    _mm256_storeu_ps(rest, minimums);
    for (int pair = 0; pair < TILE_PAIRS; pair++) {
        const __m512d both = _mm512_castps_pd(sums[pair]);
        const __m256 first = _mm256_castpd_ps(_mm512_castpd512_pd256(both));
        const __m256 second = _mm256_castpd_ps(_mm512_extractf64x4_pd(both, 1));
        out[2 * pair] = tile_across(first) + rest[2 * pair];
        out[2 * pair + 1] = tile_across(second) + rest[2 * pair + 1];
    }
}

// Writes out[column][0 .. TILE_ROWS). x are the rows' blocks at a distance of row_size bytes, y the columns' blocks. The
// first columns ask for the later rows' memory, and the others find it there.
TILE_INLINE void tile_multiply(
        const enum ggml_type type, const int num_columns, const bool is_first, int64_t num_blocks, const char * x,
        size_t row_size, const char * const * y, float * const * out) {
    const __m512i nibbles = _mm512_set1_epi8(0x0F);
    const __m512i shifts = _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0);
    const __m512i sign = _mm512_set1_epi8((char) 0x80);
    const size_t x_size = type == GGML_TYPE_Q4_1 ? sizeof(block_q4_1) : sizeof(block_q8_0);
    const size_t y_size = type == GGML_TYPE_Q4_1 ? sizeof(block_q8_1) : sizeof(block_q8_0);
    __m512 sums[TILE_COLUMNS][TILE_PAIRS];
    __m256 minimums[TILE_COLUMNS];
    for (int column = 0; column < num_columns; column++) {
        for (int pair = 0; pair < TILE_PAIRS; pair++) {
            sums[column][pair] = _mm512_setzero_ps();
        }
        minimums[column] = _mm256_setzero_ps();
    }
    for (int64_t block = 0; block < num_blocks; block++) {
        const char * here = x + block * x_size;
        if (is_first) {
            tile_ask_ahead(x + block * TILE_ROWS * x_size, TILE_ROWS * x_size);
        }
        const __m256i heads = tile_heads(here, row_size);
        const __m256 d = _mm256_cvtph_ps(_mm256_cvtepi32_epi16(heads));
        const __m256 m = _mm256_cvtph_ps(_mm256_cvtepi32_epi16(_mm256_srli_epi32(heads, 16)));
        __m512i weights[TILE_PAIRS]; // without sign
        __m512 scales[TILE_PAIRS];
        for (int pair = 0; pair < TILE_PAIRS; pair++) {
            const char * first = here + 2 * pair * row_size;
            const char * second = first + row_size;
            if (type == GGML_TYPE_Q4_1) {
                const __m128i * upper = (const __m128i *) ((const block_q4_1 *) second)->qs;
                const __m128i * lower = (const __m128i *) ((const block_q4_1 *) first)->qs;
                __m512i packed = _mm512_broadcast_i32x4(_mm_loadu_si128(lower));
                packed = _mm512_mask_broadcast_i32x4(packed, 0xFF00, _mm_loadu_si128(upper));
                weights[pair] = _mm512_and_si512(nibbles, _mm512_srlv_epi64(packed, shifts));
            } else {
                const __m512i both = tile_both(((const block_q8_0 *) first)->qs, ((const block_q8_0 *) second)->qs);
                weights[pair] = _mm512_xor_si512(sign, both); // 128 more
            }
            scales[pair] = tile_spread(d, pair);
        }
        for (int column = 0; column < num_columns; column++) {
            const char * activations = y[column] + block * y_size;
            const void * qs = type == GGML_TYPE_Q4_1 ? (const void *) ((const block_q8_1 *) activations)->qs
                                                     : (const void *) ((const block_q8_0 *) activations)->qs;
            const __m512i values = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *) qs));
            const __m512 scale = _mm512_cvtph_ps(_mm256_set1_epi16(*(const short *) activations));
            __m512i start = _mm512_setzero_si512();
            if (type == GGML_TYPE_Q4_1) {
                const __m256 sum = _mm256_cvtph_ps(_mm_set1_epi16((short) ((const block_q8_1 *) activations)->s));
                minimums[column] = _mm256_fmadd_ps(m, sum, minimums[column]);
            } else {
                start = _mm512_sub_epi32(start, _mm512_dpbusd_epi32(start, sign, values)); // takes the 128 off again
            }
            for (int pair = 0; pair < TILE_PAIRS; pair++) {
                const __m512 dots = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(start, weights[pair], values));
                sums[column][pair] = _mm512_fmadd_ps(_mm512_mul_ps(scales[pair], scale), dots, sums[column][pair]);
            }
        }
    }
    for (int column = 0; column < num_columns; column++) {
        tile_store(sums[column], minimums[column], out[column]);
    }
}

#else

#define TILE_ROWS 2

// Adds up the products of four neighbours each, the weights without sign; 15 * 127 * 2 fits 16 bits: nothing saturates.
TILE_INLINE __m256i tile_dots(__m256i start, __m256i weights, __m256i values) {
    (void) start; // zero
    return _mm256_madd_epi16(_mm256_set1_epi16(1), _mm256_maddubs_epi16(weights, values));
}

// The same for Q4_1 only.
TILE_INLINE void tile_multiply(
        const enum ggml_type type, const int num_columns, const bool is_first, int64_t num_blocks, const char * x,
        size_t row_size, const char * const * y, float * const * out) {
    const __m256i nibbles = _mm256_set1_epi8(0x0F);
    const __m256i shifts = _mm256_set_epi64x(4, 4, 0, 0);
    const __m256i ones = _mm256_set1_epi16(1);
    __m256 sums[TILE_COLUMNS][TILE_ROWS];
    __m128 minimums[TILE_ROWS]; // of all columns
    for (int row = 0; row < TILE_ROWS; row++) {
        for (int column = 0; column < num_columns; column++) {
            sums[column][row] = _mm256_setzero_ps();
        }
        minimums[row] = _mm_setzero_ps();
    }
    for (int64_t block = 0; block < num_blocks; block++) {
        if (is_first) {
            const size_t num_bytes = TILE_ROWS * sizeof(block_q4_1);
            tile_ask_ahead(x + block * num_bytes, num_bytes);
        }
        const block_q8_1 * activations[TILE_COLUMNS];
        int32_t heads[TILE_COLUMNS] = {0}; // a scale and a sum each
        for (int column = 0; column < num_columns; column++) {
            activations[column] = (const block_q8_1 *) y[column] + block;
            memcpy(&heads[column], activations[column], sizeof(int32_t));
        }
        const __m128i both = _mm_shuffle_epi8(
            _mm_set_epi32(heads[3], heads[2], heads[1], heads[0]),
            _mm_set_epi8(15, 14, 11, 10, 7, 6, 3, 2, 13, 12, 9, 8, 5, 4, 1, 0));
        const __m256 halves = _mm256_cvtph_ps(both);
        const __m128 scale = _mm256_castps256_ps128(halves), sum = _mm256_extractf128_ps(halves, 1);
        __m256i weights[TILE_ROWS];
        float scales[TILE_ROWS][TILE_COLUMNS];
        for (int row = 0; row < TILE_ROWS; row++) {
            const block_q4_1 * weight = (const block_q4_1 *) (x + row * row_size) + block;
            const __m256i packed = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) weight->qs));
            weights[row] = _mm256_and_si256(nibbles, _mm256_srlv_epi64(packed, shifts));
            _mm_storeu_ps(scales[row], _mm_mul_ps(_mm_set1_ps(_cvtsh_ss(weight->d)), scale));
            minimums[row] = _mm_fmadd_ps(_mm_set1_ps(_cvtsh_ss(weight->m)), sum, minimums[row]);
        }
        for (int column = 0; column < num_columns; column++) {
            const __m256i values = _mm256_loadu_si256((const __m256i *) activations[column]->qs);
            for (int row = 0; row < TILE_ROWS; row++) {
                // 15 * 127 * 2 fits 16 bits: nothing saturates.
                const __m256i dots = _mm256_madd_epi16(ones, _mm256_maddubs_epi16(weights[row], values));
                sums[column][row] = _mm256_fmadd_ps(
                    _mm256_broadcast_ss(&scales[row][column]), _mm256_cvtepi32_ps(dots), sums[column][row]);
            }
        }
    }
    for (int row = 0; row < TILE_ROWS; row++) {
        float rest[TILE_COLUMNS];
        _mm_storeu_ps(rest, minimums[row]);
        for (int column = 0; column < num_columns; column++) {
            out[column][row] = tile_across(sums[column][row]) + rest[column];
        }
    }
    (void) type;
}

#endif

#define TILE_ALONE_ROWS 4 // at a time, so that one's sum doesn't wait for another's

// Writes out[0 .. TILE_ALONE_ROWS) of a single column y. The two 16 bits before a block's numbers stay side by side in
// a register: a scale, whose product is spread over the lanes, and Q4_1's minimum, which adds up beside it.
TILE_INLINE void tile_multiply_alone(
        const enum ggml_type type, int64_t num_blocks, const char * x, size_t row_size, const char * y, float * out) {
    const __m256i nibbles = _mm256_set1_epi8(0x0F);
    const __m256i shifts = _mm256_set_epi64x(4, 4, 0, 0);
    const __m256i sign = _mm256_set1_epi8((char) 0x80);
    const size_t x_size = type == GGML_TYPE_Q4_1 ? sizeof(block_q4_1) : sizeof(block_q8_0);
    const size_t y_size = type == GGML_TYPE_Q4_1 ? sizeof(block_q8_1) : sizeof(block_q8_0);
    __m256 sums[TILE_ALONE_ROWS];
    __m128 minimums[TILE_ALONE_ROWS]; // in the second lane
    for (int row = 0; row < TILE_ALONE_ROWS; row++) {
        sums[row] = _mm256_setzero_ps();
        minimums[row] = _mm_setzero_ps();
    }
    for (int64_t block = 0; block < num_blocks; block++) {
        const char * activations = y + block * y_size;
        tile_ask_ahead(x + block * TILE_ALONE_ROWS * x_size, TILE_ALONE_ROWS * x_size);
        const __m128 scale = tile_head(activations);
        const __m256i values = _mm256_loadu_si256((const __m256i *) (activations + y_size - 32));
        __m256i start = _mm256_setzero_si256();
        if (type == GGML_TYPE_Q8_0) {
            start = _mm256_sub_epi32(start, tile_dots(start, sign, values)); // takes the 128 off again
        }
        for (int row = 0; row < TILE_ALONE_ROWS; row++) {
            const char * here = x + row * row_size + block * x_size;
            const __m128 head = tile_head(here);
            __m256i weights;
            if (type == GGML_TYPE_Q4_1) {
                const __m128i * qs = (const __m128i *) ((const block_q4_1 *) here)->qs;
                const __m256i packed = _mm256_broadcastsi128_si256(_mm_loadu_si128(qs));
                weights = _mm256_and_si256(nibbles, _mm256_srlv_epi64(packed, shifts));
                minimums[row] = _mm_fmadd_ps(head, scale, minimums[row]);
            } else {
                const __m256i * qs = (const __m256i *) ((const block_q8_0 *) here)->qs;
                weights = _mm256_xor_si256(sign, _mm256_loadu_si256(qs)); // 128 more
            }
            const __m256 both = _mm256_broadcastss_ps(_mm_mul_ps(head, scale));
            sums[row] = _mm256_fmadd_ps(both, _mm256_cvtepi32_ps(tile_dots(start, weights, values)), sums[row]);
        }
    }
    for (int row = 0; row < TILE_ALONE_ROWS; row++) {
        out[row] = tile_across(sums[row]) + _mm_cvtss_f32(_mm_movehdup_ps(minimums[row]));
    }
}

TILE_INLINE void tile_multiply_columns(
        const enum ggml_type type, int num_columns, bool is_first, int64_t num_blocks, const char * x, size_t row_size,
        const char * const * y, float * const * out) {
    switch (num_columns) {
        case 1: tile_multiply(type, 1, is_first, num_blocks, x, row_size, y, out); break;
        case 2: tile_multiply(type, 2, is_first, num_blocks, x, row_size, y, out); break;
        case 3: tile_multiply(type, 3, is_first, num_blocks, x, row_size, y, out); break;
        case 4: tile_multiply(type, 4, is_first, num_blocks, x, row_size, y, out); break;
    }
}

// Computes a part of dst as ggml_compute_forward_mul_mat_one_chunk does. `activations` are the columns of src1 in the
// type that the weights are multiplied with. Returns false, and does nothing, when the matrices are not plain ones, or
// of another type.
static bool tile_mul_mat_one_chunk(
        struct ggml_tensor * dst, const char * activations, size_t activation_size,
        int64_t first_row, int64_t end_row, int64_t first_column, int64_t end_column) {
    const struct ggml_tensor * weights = dst->src[0];
    const enum ggml_type type = weights->type;
    bool is_known = type == GGML_TYPE_Q4_1;
#ifdef TILE_HAS_Q8_0
    is_known = is_known || type == GGML_TYPE_Q8_0;
#endif
    if (!is_known || ggml_n_dims(weights) > 2 || ggml_n_dims(dst) > 2 || dst->src[1]->type != GGML_TYPE_F32) {
        return false;
    }
    const int64_t num_blocks = weights->ne[0] / 32;
    const size_t row_size = weights->nb[1];
    const ggml_vec_dot_t vec_dot = ggml_get_type_traits_cpu(type)->vec_dot;
    for (int64_t column = first_column; column < end_column; column += TILE_COLUMNS) {
        const int num_columns = (int) MIN(TILE_COLUMNS, end_column - column);
        const char * y[TILE_COLUMNS];
        float * out[TILE_COLUMNS];
        for (int i = 0; i < num_columns; i++) {
            y[i] = activations + (column + i) * activation_size;
            out[i] = (float *) ((char *) dst->data + (column + i) * dst->nb[1]) + first_row;
        }
        int64_t row = first_row;
        for (; num_columns == 1 && row + TILE_ALONE_ROWS <= end_row; row += TILE_ALONE_ROWS) {
            const char * x = (const char *) weights->data + row * row_size;
            if (type == GGML_TYPE_Q4_1) {
                tile_multiply_alone(GGML_TYPE_Q4_1, num_blocks, x, row_size, y[0], out[0]);
            } else {
                tile_multiply_alone(GGML_TYPE_Q8_0, num_blocks, x, row_size, y[0], out[0]);
            }
            out[0] += TILE_ALONE_ROWS;
        }
        for (; row + TILE_ROWS <= end_row; row += TILE_ROWS) {
            const char * x = (const char *) weights->data + row * row_size;
            if (type == GGML_TYPE_Q4_1) {
                tile_multiply_columns(GGML_TYPE_Q4_1, num_columns, column == first_column, num_blocks, x, row_size, y, out);
            } else {
                tile_multiply_columns(GGML_TYPE_Q8_0, num_columns, column == first_column, num_blocks, x, row_size, y, out);
            }
            for (int i = 0; i < num_columns; i++) {
                out[i] += TILE_ROWS;
            }
        }
        for (; row < end_row; row++) {
            for (int i = 0; i < num_columns; i++) {
                const char * x = (const char *) weights->data + row * row_size;
                vec_dot((int) weights->ne[0], out[i]++, 0, x, 0, y[i], 0, 1);
            }
        }
    }
    return true;
}

#define GGML_HAS_TILES

#endif
