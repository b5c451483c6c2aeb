// Select: the tokens one (layer, kv head) attends to: forced sinks, forced
// recent window, and the best-scored of the rest, `budget` in all.
//
// Result   token indices in rising order, without duplicates. When tokens <=
//          budget: all of them. Of equal scores the newer token (higher index)
//          wins; NaN ranks below every number. Deterministic.
// Threads  safe; pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace passband::kernels {

struct SelectOptions {
  uint32_t budget = 256;  // >= sinks + recent
  uint32_t sinks = 4;
  uint32_t recent = 64;
};

struct SelectScratch {
  std::vector<uint32_t> keys;
  std::vector<uint32_t> candidates;
  std::vector<uint64_t> bits;
};

// scores: one per token, >= 0 or NaN. Replaces the content of `selected`.
void SelectTokens(std::span<const float> scores, const SelectOptions& options,
                  SelectScratch& scratch, std::vector<uint32_t>& selected);

}  // namespace passband::kernels
