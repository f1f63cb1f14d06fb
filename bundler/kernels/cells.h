// Which cells of a KV cache that several conversations share a batch's tokens get; llama-kv-cache.cpp includes it.
//
// llama.cpp takes the next free cells it comes to, so that beside others a conversation's cells are strewn, and when it
// comes to the end some lie before those of earlier tokens. Attention adds up in the order of the cells: it would then
// be another sum than that of the same conversation alone. Here a conversation's cells lie in its tokens' order as long
// as there is room behind them, and in whole blocks, so that attention passes over most of the other ones' at once.

#pragma once

#include <cstdint>
#include <vector>

static constexpr uint32_t CELLS_IN_BLOCK = 64; // as ggml's tiles of attention

// The first free cell from `first` on that is also the first of a block of free ones; without any, the first free cell;
// without that, `num_cells`.
template <class IsFree>
static uint32_t cells_first_free(uint32_t first, uint32_t num_cells, const IsFree & is_free) {
    const uint32_t num_blocks = num_cells / CELLS_IN_BLOCK;
    for (uint32_t block = (first + CELLS_IN_BLOCK - 1) / CELLS_IN_BLOCK; block < num_blocks; block++) {
        uint32_t num_free = 0;
        while (num_free < CELLS_IN_BLOCK && is_free(block * CELLS_IN_BLOCK + num_free)) {
            num_free++;
        }
        if (num_free == CELLS_IN_BLOCK) {
            return block * CELLS_IN_BLOCK;
        }
    }
    while (first < num_cells && !is_free(first)) {
        first++;
    }
    return first;
}

// Finds a cell for each of the tokens [first, first + num) of a batch whose sequences are `ids`; false when there are
// too few. `next_of` gives the cell behind a sequence's newest one, `is_free` what may be taken.
template <class NextOf, class IsFree>
static bool cells_find(
        std::vector<uint32_t> & found, int32_t * const * ids, uint32_t first, uint32_t num, uint32_t num_cells,
        const NextOf & next_of, const IsFree & is_free) {
    std::vector<bool> is_taken(num_cells);
    const auto is_left = [&](uint32_t cell) { return !is_taken[cell] && is_free(cell); };
    for (uint32_t token = first; token < first + num; token++) {
        const bool goes_on = token > first && ids[token][0] == ids[token - 1][0];
        uint32_t cell = goes_on ? found.back() + 1 : next_of(ids[token][0]);
        if (cell % CELLS_IN_BLOCK == 0 || cell >= num_cells || !is_left(cell)) {
            cell = cells_first_free(cell, num_cells, is_left);
        }
        if (cell >= num_cells) {
            cell = cells_first_free(0, num_cells, is_left);
        }
        if (cell >= num_cells) {
            return false;
        }
        is_taken[cell] = true;
        found.push_back(cell);
    }
    return true;
}
