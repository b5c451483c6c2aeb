// Logits: what the model thinks of the next token, a row per asked position.
//
// Threads  a plain value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace passband {

struct Logits {
  uint32_t vocab_size = 0;
  std::vector<float> values;  // [rows][vocab_size]

  size_t rows() const { return vocab_size == 0 ? 0 : values.size() / vocab_size; }
  std::span<const float> row(size_t index) const {
    return std::span(values).subspan(index * vocab_size, vocab_size);
  }
};

// The most likely token; the lowest id among equals.
uint32_t ArgMax(std::span<const float> logits);

// -log2 of the probability that `logits` gives `token`.
double SurpriseBits(std::span<const float> logits, uint32_t token);

}  // namespace passband
