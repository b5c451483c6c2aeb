// ScoredWalk: the attention of a document's scored positions under one method.
//
// Takes the item of all scored positions and walks it position by position, as
// if each had been decoded on its own: the engine appends the row, selects,
// fetches and attends. At every 16th position of a layer the probe looks at the
// selection.
//
// Threads    one caller at a time.
// Ownership  borrows everything.
// Errors     the engine's and the selector's; kInvalidArgument unless the batch
//            is one item.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "llama/attention_backend.h"
#include "sdk/engine.h"
#include "services/worker/eval/exact_keys.h"
#include "services/worker/eval/probe.h"
#include "services/worker/eval/selectors.h"

namespace passband {

inline constexpr uint32_t kProbeEvery = 16;

class ScoredWalk final : public AttentionBackend {
 public:
  enum class Kind {
    kFull,      // Engine::StepFull
    kOwn,       // Engine::Step; the selector is only asked by the probe
    kSelector,  // Engine::Step with the selector
  };
  struct Parts {
    Engine* engine = nullptr;
    WorkerSequence* sequence = nullptr;
    const PromptKeys* prompt_keys = nullptr;
    EvalSelector* selector = nullptr;  // null for kFull
    Probe* probe = nullptr;            // null: no look
    float scale = 1;
    std::function<void(uint64_t steps)> on_steps;
  };

  ScoredWalk(Kind kind, Parts parts);

  Status Attend(const AttendArgs& args) override;

 private:
  Status Step(uint32_t layer, const StepItem& item);
  Status Look(uint32_t layer, uint64_t context, const float* queries);

  const Kind kind_;
  const Parts parts_;
  LayerKeys keys_;
  std::vector<std::vector<uint32_t>> sets_;
};

}  // namespace passband
