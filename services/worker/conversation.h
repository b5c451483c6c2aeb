// Conversation: questions to one sequence, each answered greedily, every answer
// read by those after it.
//
// Under full attention a question is computed exactly and its answer decoded
// with StepFull; otherwise everything is Engine::Step.
//
// Threads    one at a time.
// Ownership  borrows everything. The sequence holds the context already.
// Errors     the model's and the engine's.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "llama/model.h"
#include "sdk/engine.h"
#include "services/worker/engine_attention.h"

namespace passband {

class Conversation {
 public:
  Conversation(const LlamaModel& model, Engine& engine, WorkerSequence& sequence, bool full);

  // The `count` likeliest tokens after `question`, one by one.
  StatusOr<std::vector<uint32_t>> Ask(std::span<const uint32_t> question, uint32_t count);

  // Tokens whose rows are stored.
  uint64_t position() const { return position_; }
  // What answering did, and how long it took: the tokens after each question's
  // last (full), or all of them (sparse).
  const EngineStats& stats() const { return stats_; }
  double seconds() const { return seconds_; }

 private:
  StatusOr<uint32_t> Feed(std::span<const uint32_t> tokens);

  const LlamaModel& model_;
  Engine& engine_;
  WorkerSequence& sequence_;
  const bool full_;
  EngineAttention attention_;
  uint64_t position_;
  std::vector<uint32_t> unread_;  // the last answer's last token
  EngineStats stats_;
  double seconds_ = 0;
};

}  // namespace passband
