#include "sdk/tip_selector.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "sdk/lap_timer.h"

namespace passband {

TipSelector::TipSelector(const kernels::SelectOptions& options, uint32_t group, float scale)
    : options_(options), group_(static_cast<int>(group)), scale_(scale) {
  options_.recent = std::max(options_.recent, 1U);
  options_.sinks = std::min(options_.sinks, options_.budget - options_.recent);
}

Status TipSelector::Select(WorkerSequence& sequence, uint32_t layer, uint32_t kv_head,
                           uint64_t context, const float* queries,
                           std::vector<std::vector<uint32_t>>& sets) {
  sets.resize(1);
  if (context <= options_.budget) {
    sets[0].resize(context);
    std::iota(sets[0].begin(), sets[0].end(), 0U);
    return OkStatus();
  }
  const kernels::SliceIndex* slices = sequence.slices(layer, kv_head);
  if (slices == nullptr) {
    return Error(StatusCode::kFailedPrecondition,
                 "sequence {} has no slices: the engine was created without a profile",
                 sequence.id());
  }
  PASSBAND_CHECK(slices->tokens() == context);
  LapTimer timer;
  if (scores_.size() < context) scores_.resize(context + context / 2);
  kernels::TipScores(*slices, queries, group_, scale_, tip_scratch_, scores_.data());
  tip_seconds_ += timer.Lap();
  kernels::SelectTokens({scores_.data(), context}, options_, select_scratch_, sets[0]);
  return OkStatus();
}

double TipSelector::TakeTipSeconds() { return std::exchange(tip_seconds_, 0.0); }

}  // namespace passband
