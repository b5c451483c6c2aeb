// Sampler: picks the next token from a row of logits.
//
// Temperature 0 is greedy. Otherwise: keep the top_k most likely tokens (0:
// all), of these the smallest set whose probability reaches top_p, and draw.
// The same seed and the same logits give the same tokens on every machine.
//
// Threads  one caller at a time.
// Errors   Create: kInvalidArgument for settings out of range.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/status.h"
#include "llama/split_mix.h"

namespace passband {

class Sampler {
 public:
  struct Options {
    double temperature = 0.0;  // 0 is greedy
    double top_p = 1.0;        // (0, 1]
    uint32_t top_k = 0;        // 0: all
    uint64_t seed = 0;
  };

  static StatusOr<Sampler> Create(const Options& options);

  uint32_t Sample(std::span<const float> logits);

 private:
  explicit Sampler(const Options& options) : options_(options), random_(options.seed) {}

  Options options_;
  SplitMix random_;
  std::vector<std::pair<float, uint32_t>> candidates_;
};

}  // namespace passband
