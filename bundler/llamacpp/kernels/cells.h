// Which cells of a KV cache that several conversations share a batch's tokens get; llama-kv-cache.cpp includes it.
//
// llama.cpp takes the next free cells it comes to, so that beside others a conversation's cells are strewn, and when it
// comes to the end some lie before those of earlier tokens. Attention adds up in the order of the cells: it would then
// be another sum than that of the same conversation alone. Here a conversation's cells lie in its tokens' order as long
// as there is room behind them, and in whole blocks, so that attention passes over most of the other ones' at once.

#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

static constexpr uint32_t CELLS_IN_BLOCK = 64; // as ggml's tiles of attention

// The first cell from `first` on that is the first of a block of those that may be taken; without any, the first that
// may be; without that, `num_cells`.
template <class MayTake>
static uint32_t cells_first(uint32_t first, uint32_t num_cells, const MayTake & may_take) {
    const uint32_t num_blocks = num_cells / CELLS_IN_BLOCK;
    for (uint32_t block = (first + CELLS_IN_BLOCK - 1) / CELLS_IN_BLOCK; block < num_blocks; block++) {
        uint32_t num = 0;
        while (num < CELLS_IN_BLOCK && may_take(block * CELLS_IN_BLOCK + num)) {
            num++;
        }
        if (num == CELLS_IN_BLOCK) {
            return block * CELLS_IN_BLOCK;
        }
    }
    while (first < num_cells && !may_take(first)) {
        first++;
    }
    return first;
}

// The best cell for a token whose sequence's newest one lies before `next`: that one, or one behind it, or any.
template <class MayTake>
static uint32_t cells_best(uint32_t next, uint32_t num_cells, const MayTake & may_take) {
    if (next % CELLS_IN_BLOCK != 0 && next < num_cells && may_take(next)) {
        return next;
    }
    const uint32_t behind = cells_first(next, num_cells, may_take);
    return behind < num_cells ? behind : cells_first(0, num_cells, may_take);
}

// Finds a cell for each of the tokens [first, first + num) of a batch whose sequences are `ids`; false when there are
// too few. `next_of` gives the cell behind a sequence's newest one. Those that a sliding window has left behind,
// `is_passed`, are taken only when none `is_empty`: a shift may still bring them back into the window.
template <class NextOf, class IsEmpty, class IsPassed>
static bool cells_find(
        std::vector<uint32_t> & found, int32_t * const * ids, uint32_t first, uint32_t num, uint32_t num_cells,
        const NextOf & next_of, const IsEmpty & is_empty, const IsPassed & is_passed) {
    std::vector<bool> is_taken(num_cells);
    std::unordered_map<int32_t, uint32_t> newest; // of those found here
    bool has_empty = true;
    for (uint32_t token = first; token < first + num; token++) {
        const int32_t id = ids[token][0];
        const auto before = newest.find(id);
        const uint32_t next = before != newest.end() ? before->second + 1 : next_of(id);
        uint32_t cell = num_cells;
        if (has_empty) {
            cell = cells_best(next, num_cells, [&](uint32_t each) { return !is_taken[each] && is_empty(each); });
            has_empty = cell < num_cells;
        }
        if (!has_empty) {
            cell = cells_best(next, num_cells, [&](uint32_t each) { return !is_taken[each] && is_passed(each); });
        }
        if (cell >= num_cells) {
            return false;
        }
        newest[id] = cell;
        is_taken[cell] = true;
        found.push_back(cell);
    }
    return true;
}
