#include "sdk/step_append.h"

namespace passband {

StepAppend::~StepAppend() {
  for (size_t i = 0; i < appended_; ++i) {
    sequences_[i]->TakeBack(layer_, sequences_[i]->layer(layer_).length() - 1);
  }
}

Status StepAppend::SendCompleteBlocks() {
  for (SequenceState* sequence : sequences_) {
    const SequenceState::Layer& layer = sequence->layer(layer_);
    if (layer.length() % TailBuffer::kBlockTokens != 0 || layer.sent == layer.length()) continue;
    // The block sent before this one is about to leave the tail. It had a
    // block's time to be stored, so waiting now costs nothing; waiting when it
    // is first fetched would wait for the new one too.
    PASSBAND_RETURN_IF_ERROR(sequence->EnsureStored(layer_, layer.sent));
    PASSBAND_RETURN_IF_ERROR(sequence->SendCompleteBlocks(layer_));
  }
  return OkStatus();
}

void StepAppend::Append(const std::byte* rows) {
  SequenceState& sequence = *sequences_[appended_];
  sequence.Append(layer_, rows, sequence.config().model.head.row_bytes(), 1);
  ++appended_;
}

}  // namespace passband
