// How a document's logits become a score (tasks.h).
#include <algorithm>

#include "llama/tasks.h"

namespace passband {
namespace {

// Which of the answer's tokens the most likely predictions get right.
uint32_t RightTokens(const TaskDocument& document, const Answer& answer, const Logits& logits) {
  uint32_t right = 0;
  for (uint32_t token = answer.first; token < answer.first + answer.count; ++token) {
    const std::span<const float> row = logits.row(token - 1 - document.first_scored());
    right += ArgMax(row) == document.tokens[token] ? 1 : 0;
  }
  return right;
}

double Bits(const TaskDocument& document, const Answer& answer, const Logits& logits) {
  double bits = 0;
  for (uint32_t token = answer.first; token < answer.first + answer.count; ++token) {
    bits += SurpriseBits(logits.row(token - 1 - document.first_scored()), document.tokens[token]);
  }
  return bits;
}

}  // namespace

TaskScore Score(const TaskDocument& document, const Logits& logits) {
  PASSBAND_CHECK(logits.rows() == document.scored_positions());
  TaskScore out;
  for (const Answer& answer : document.answers) {
    switch (document.task) {
      case Task::kNeedle:
        out.Add({RightTokens(document, answer, logits) == answer.count ? 1.0 : 0.0, 1.0});
        break;
      case Task::kRecall:
        out.Add({static_cast<double>(RightTokens(document, answer, logits)),
                 static_cast<double>(answer.count)});
        break;
      case Task::kBooks:
        out.Add({Bits(document, answer, logits), static_cast<double>(answer.count)});
        break;
    }
  }
  return out;
}

}  // namespace passband
