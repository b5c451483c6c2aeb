#include "sdk/worker_sequence.h"

#include <utility>

#include "sdk/sequence_state.h"

namespace passband {

WorkerSequence::WorkerSequence(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
WorkerSequence::~WorkerSequence() { impl_->Close(); }

SequenceId WorkerSequence::id() const { return impl_->id(); }
uint64_t WorkerSequence::attached_tokens() const { return impl_->attached_tokens(); }

uint64_t WorkerSequence::length(uint32_t layer) const {
  return std::as_const(*impl_).layer(layer).length();
}

const kernels::SliceIndex* WorkerSequence::slices(uint32_t layer, uint32_t kv_head) const {
  const auto& slices = std::as_const(*impl_).layer(layer).heads[kv_head].slices;
  return slices ? &*slices : nullptr;
}

uint64_t WorkerSequence::slice_bytes() const {
  uint64_t bytes = 0;
  for (const SequenceState::Layer& layer : impl_->layers()) {
    for (const SequenceState::Head& head : layer.heads) {
      if (head.slices) bytes += head.slices->memory_bytes();
    }
  }
  return bytes;
}

uint64_t WorkerSequence::hot_row_bytes() const {
  uint64_t bytes = 0;
  for (const SequenceState::Layer& layer : impl_->layers()) {
    bytes += layer.slab->memory_bytes();
    for (const SequenceState::Head& head : layer.heads) bytes += head.cache.memory_bytes();
  }
  return bytes;
}

uint64_t WorkerSequence::tail_bytes() const {
  uint64_t bytes = 0;
  for (const SequenceState::Layer& layer : impl_->layers()) bytes += layer.tail.memory_bytes();
  return bytes;
}

Status WorkerSequence::Truncate(uint64_t tokens) { return impl_->Truncate(tokens); }

Status WorkerSequence::ExtendTokenIds(uint64_t first, const std::vector<uint32_t>& token_ids) {
  return impl_->ExtendTokenIds(first, token_ids);
}

Status WorkerSequence::Seal() { return impl_->Seal(); }
void WorkerSequence::Detach() { impl_->Detach(); }

}  // namespace passband
