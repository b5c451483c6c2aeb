#include "services/worker/conversation.h"

#include "base/clock.h"
#include "llama/logits.h"
#include "services/worker/memory_report.h"

namespace passband {
namespace {

constexpr uint64_t kHandle = 1;

}  // namespace

Conversation::Conversation(const LlamaModel& model, Engine& engine, WorkerSequence& sequence,
                           bool full)
    : model_(model),
      engine_(engine),
      sequence_(sequence),
      full_(full),
      attention_(engine, model.pool(), {.full = full}),
      position_(sequence.length(0)) {
  attention_.Add(kHandle, sequence, position_);
}

StatusOr<std::vector<uint32_t>> Conversation::Ask(std::span<const uint32_t> question,
                                                  uint32_t count) {
  std::vector<uint32_t> asked = unread_;
  asked.insert(asked.end(), question.begin(), question.end());
  // What lies below this is computed exactly.
  if (full_) attention_.Add(kHandle, sequence_, position_ + asked.size());
  PASSBAND_ASSIGN_OR_RETURN(uint32_t token, Feed(asked));
  std::vector<uint32_t> answer = {token};
  while (answer.size() < count) {
    PASSBAND_ASSIGN_OR_RETURN(token, Feed(std::span(&token, 1)));
    answer.push_back(token);
  }
  unread_ = {token};
  return answer;
}

StatusOr<uint32_t> Conversation::Feed(std::span<const uint32_t> tokens) {
  const Time start = RealClock().Now();
  const EngineStats before = engine_.stats();
  const BatchItem item{tokens, position_, kHandle, 1};
  PASSBAND_ASSIGN_OR_RETURN(const Logits logits, model_.Forward(std::span(&item, 1), attention_));
  position_ += tokens.size();
  const EngineStats done = Between(before, engine_.stats());
  if (done.steps > 0) {
    stats_ = Sum(stats_, done);
    seconds_ += Seconds(RealClock().Now() - start);
  }
  return ArgMax(logits.row(0));
}

}  // namespace passband
