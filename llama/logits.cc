#include "llama/logits.h"

#include <algorithm>
#include <cmath>

namespace passband {

uint32_t ArgMax(std::span<const float> logits) {
  return static_cast<uint32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

double SurpriseBits(std::span<const float> logits, uint32_t token) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - most);
  return (most + std::log(sum) - static_cast<double>(logits[token])) / std::log(2.0);
}

}  // namespace passband
