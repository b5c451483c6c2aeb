#include "llama/sampler.h"

#include <algorithm>
#include <cmath>

#include "llama/logits.h"

namespace passband {

StatusOr<Sampler> Sampler::Create(const Options& options) {
  if (!std::isfinite(options.temperature) || options.temperature < 0) {
    return Error(StatusCode::kInvalidArgument, "temperature {} is not 0 or more",
                 options.temperature);
  }
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    return Error(StatusCode::kInvalidArgument, "top_p {} is not in (0, 1]", options.top_p);
  }
  return Sampler(options);
}

uint32_t Sampler::Sample(std::span<const float> logits) {
  if (options_.temperature == 0) return ArgMax(logits);
  candidates_.clear();
  for (uint32_t token = 0; token < logits.size(); ++token) {
    candidates_.emplace_back(logits[token], token);
  }
  // Most likely first; among equals the lower id.
  std::sort(candidates_.begin(), candidates_.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  if (options_.top_k > 0 && options_.top_k < candidates_.size()) {
    candidates_.resize(options_.top_k);
  }
  const float largest = candidates_.front().first;
  double total = 0;
  for (auto& [weight, token] : candidates_) {
    weight = static_cast<float>(
        std::exp((static_cast<double>(weight) - largest) / options_.temperature));
    total += weight;
  }
  double kept = 0;
  size_t count = 0;
  while (count < candidates_.size() && kept < options_.top_p * total) {
    kept += candidates_[count++].first;
  }
  double left = random_.Uniform() * kept;
  for (size_t i = 0; i + 1 < count; ++i) {
    left -= candidates_[i].first;
    if (left < 0) return candidates_[i].second;
  }
  return candidates_[count - 1].second;
}

}  // namespace passband
