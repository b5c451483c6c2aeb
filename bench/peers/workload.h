// Workload: what every peer of bench/peers_bench stores and is asked for.
//
// Rows of one model: [layer][kv_head][token], 256 MiB of them. Every byte is a function
// of its place, so that any reply can be checked whole.
//
// Units      bytes.
// Threads    plain values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/status.h"

namespace passband::bench {

inline constexpr uint32_t kKvHeads = 8;
inline constexpr uint32_t kTokens = 8192;
inline constexpr uint32_t kBlockTokens = 64;
inline constexpr size_t kValueBytes = 1 << 20;  // Of a put and of a get.
inline constexpr uint32_t kValues = 64;         // Distinct ones, put in turn.

struct Workload {
  uint32_t row_bytes = 512;
  uint32_t rows = 2048;  // Of one gather, the same number of every kv head.
  uint32_t layers = 8;

  uint32_t per_head() const { return rows / kKvHeads; }
  size_t gather_bytes() const { return size_t{rows} * row_bytes; }
};

// The rows of one layer: `tokens` holds per_head() of each kv head, head after head.
struct GatherRequest {
  uint32_t layer = 0;
  std::span<const uint32_t> tokens;
};

// The 64 bits at `word` of the row or value named by `place`.
inline uint64_t WordAt(uint64_t place, uint64_t word) {
  uint64_t z = (place + 1) * 0x9E3779B97F4A7C15u + word * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 31)) * 0x94D049BB133111EBu;
  return z ^ (z >> 29);
}
inline uint64_t PlaceOf(uint32_t layer, uint32_t head, uint32_t token) {
  return (uint64_t{layer} << 40) | (uint64_t{head} << 32) | token;
}
// A short printable key of a row.
inline std::array<char, 7> RowKey(uint32_t layer, uint32_t head, uint32_t token) {
  const auto digit = [](uint32_t value) { return "0123456789abcdef"[value & 15]; };
  return {digit(layer >> 4), digit(layer),      digit(head), digit(token >> 12),
          digit(token >> 8), digit(token >> 4), digit(token)};
}
inline uint64_t PlaceOfValue(uint32_t value) { return (uint64_t{1} << 56) | value; }

inline void Write(uint64_t place, std::span<std::byte> out) {
  for (size_t i = 0; i < out.size() / 8; ++i) {
    const uint64_t word = WordAt(place, i);
    std::memcpy(out.data() + 8 * i, &word, 8);
  }
}
inline bool Holds(uint64_t place, std::span<const std::byte> bytes) {
  for (size_t i = 0; i < bytes.size() / 8; ++i) {
    const uint64_t word = WordAt(place, i);
    if (std::memcmp(bytes.data() + 8 * i, &word, 8) != 0) return false;
  }
  return true;
}

}  // namespace passband::bench
