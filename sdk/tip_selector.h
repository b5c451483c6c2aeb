// TipSelector: the engine's own TokenSelector: TIP over the slices of a head,
// then the forced sinks and recent window and the best of the rest.
//
// Result   one set for the group. The newest token is always in it (a recent
//          window of 0 counts as 1); with context <= budget every token is.
// Threads  one at a time: it keeps scratch memory.
// Errors   kFailedPrecondition for a sequence without slices.
#pragma once

#include <vector>

#include "sdk/engine.h"

namespace passband {

class TipSelector final : public TokenSelector {
 public:
  TipSelector(const kernels::SelectOptions& options, uint32_t group, float scale);

  Status Select(WorkerSequence& sequence, uint32_t layer, uint32_t kv_head, uint64_t context,
                const float* queries, std::vector<std::vector<uint32_t>>& sets) override;

  // Time spent in TIP since the last call, for telling it from selection.
  double TakeTipSeconds();

 private:
  kernels::SelectOptions options_;
  int group_;
  float scale_;
  kernels::TipScratch tip_scratch_;
  kernels::SelectScratch select_scratch_;
  std::vector<float> scores_;
  double tip_seconds_ = 0;
};

}  // namespace passband
