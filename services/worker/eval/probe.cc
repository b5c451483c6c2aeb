#include "services/worker/eval/probe.h"

#include <algorithm>
#include <span>

namespace passband {

void ProbeSums::Add(const ProbeSums& other) {
  mass += other.mass;
  masses += other.masses;
  recall += other.recall;
  recalls += other.recalls;
}

void Probe::Look(const LayerKeys& keys, uint32_t kv_head, uint64_t context, const float* queries,
                 const std::vector<std::vector<uint32_t>>& sets) {
  const uint32_t group = keys.model().group();
  weights_.resize(group * context);
  keys.Logits(kv_head, context, queries, group, weights_.data());
  SoftmaxRows(weights_.data(), group, context);
  for (uint32_t head = 0; head < group; ++head) {
    const float* weights = weights_.data() + head * context;
    const std::vector<uint32_t>& set = sets[sets.size() == 1 ? 0 : head];
    for (const uint32_t token : set) sums_.mass += weights[token];
    ++sums_.masses;
    if (sets.size() > 1) LookAtRecall(weights, context, set);
  }
  if (sets.size() == 1) {
    scores_.resize(context);
    MeanOfRows(weights_.data(), group, context, scores_.data());
    LookAtRecall(scores_.data(), context, sets[0]);
  }
}

void Probe::LookAtRecall(const float* scores, uint64_t context, const std::vector<uint32_t>& set) {
  if (context <= options_.budget || options_.budget <= options_.sinks + options_.recent) return;
  kernels::SelectTokens(std::span(scores, context), options_, scratch_, truth_);
  uint64_t wanted = 0, found = 0;
  for (const uint32_t token : truth_) {
    if (token < options_.sinks || token + uint64_t{options_.recent} >= context) continue;
    ++wanted;
    found += std::binary_search(set.begin(), set.end(), token) ? 1 : 0;
  }
  sums_.recall += static_cast<double>(found) / static_cast<double>(wanted);
  ++sums_.recalls;
}

}  // namespace passband
