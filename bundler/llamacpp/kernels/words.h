// Words that were tokenized before, with their tokens; llama-vocab.cpp includes it.
//
// A conversation's prompt is tokenized anew with each turn, and merging the bytes of each word takes most of the time.
// What a word's tokens are depends on nothing but the word.

#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

class words_known {
public:
    // Appends a word's tokens, if they are known. Any thread.
    bool find(const std::string & word, std::vector<int32_t> & tokens) {
        std::lock_guard<std::mutex> lock(mutex);
        const auto known = words.find(word);
        if (known == words.end()) {
            return false;
        }
        tokens.insert(tokens.end(), known->second.begin(), known->second.end());
        return true;
    }

    // Remembers a word whose tokens are those from `first` on. Any thread.
    void add(const std::string & word, const std::vector<int32_t> & tokens, size_t first) {
        if (word.size() > MAX_BYTES) {
            return;
        }
        std::lock_guard<std::mutex> lock(mutex);
        if (words.size() >= MAX_WORDS) {
            words.clear();
        }
        words.emplace(word, std::vector<int32_t>(tokens.begin() + first, tokens.end()));
    }

private:
    static constexpr size_t MAX_BYTES = 64;
    static constexpr size_t MAX_WORDS = 1 << 14; // some 2 MB

    std::mutex mutex;
    std::unordered_map<std::string, std::vector<int32_t>> words;
};
