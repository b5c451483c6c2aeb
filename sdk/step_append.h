// StepAppend: the new tokens of one step: appended to every sequence of the
// batch, and taken back when the step fails.
//
// Threads    one at a time.
// Ownership  borrows the sequences.
// Errors     what the service says when complete blocks are sent; then nothing
//            was appended.
#pragma once

#include <span>

#include "sdk/sequence_state.h"

namespace passband {

class StepAppend {
 public:
  StepAppend(uint32_t layer, std::span<SequenceState* const> sequences)
      : layer_(layer), sequences_(sequences) {}
  // Takes the tokens back, unless Keep() was called.
  ~StepAppend();
  StepAppend(const StepAppend&) = delete;
  StepAppend& operator=(const StepAppend&) = delete;

  // Sends the blocks that earlier steps completed: the tail needs their place.
  Status SendCompleteBlocks();
  // Appends the token of the next sequence: [kv_head][row_bytes].
  void Append(const std::byte* rows);
  void Keep() { appended_ = 0; }

 private:
  uint32_t layer_;
  std::span<SequenceState* const> sequences_;
  size_t appended_ = 0;
};

}  // namespace passband
