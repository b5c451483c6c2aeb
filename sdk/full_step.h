// FullStep: exact attention of one layer for a batch: every row is read from
// the service (but for the tail), and none is kept.
//
// Threads  one at a time: it keeps its memory from step to step.
// Errors   what the service says. Then no output is written, every sequence
//          has its former length, and the step can be repeated.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "sdk/engine.h"
#include "sdk/sequence_state.h"

namespace passband {

class FullStep {
 public:
  FullStep(KvService* service, const ModelInfo& model, float scale);

  // `sequences` are those of `items`, all different. Adds to `stats`.
  Status Run(uint32_t layer, std::span<const StepItem> items,
             std::span<SequenceState* const> sequences, EngineStats& stats);

 private:
  // Null when the tail holds everything.
  std::unique_ptr<PendingRows> StartRead(uint32_t layer, const SequenceState& sequence);
  Status Attend(const StepItem& item, const SequenceState::Layer& layer, PendingRows* pending,
                float* out, EngineStats& stats);

  KvService* service_;
  const ModelInfo& model_;
  float scale_;
  size_t row_bytes_;
  std::vector<const std::byte*> rows_;
  std::vector<float> outs_;
};

}  // namespace passband
