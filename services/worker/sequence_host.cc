#include "services/worker/sequence_host.h"

namespace passband {

StatusOr<SequenceHost::Opened> EngineHost::Open(uint64_t handle, std::span<const uint32_t> prompt,
                                                uint64_t, bool share_prefix) {
  PASSBAND_ASSIGN_OR_RETURN(auto sequence, engine_.Open(prompt, share_prefix));
  const Opened opened{sequence->id(), sequence->attached_tokens()};
  attention_.Add(handle, *sequence, prompt.size());
  sequences_[handle] = std::move(sequence);
  return opened;
}

Status EngineHost::Keep(uint64_t handle, uint64_t first, const std::vector<uint32_t>& named) {
  WorkerSequence& sequence = *sequences_.at(handle);
  PASSBAND_RETURN_IF_ERROR(engine_.Flush(sequence));
  if (!named.empty()) PASSBAND_RETURN_IF_ERROR(sequence.ExtendTokenIds(first, named));
  return sequence.Seal();
}

void EngineHost::AddMemory(uint64_t handle, uint64_t attended, MemoryReport& report) const {
  report.AddSequence(*sequences_.at(handle), attended, engine_.model());
}

}  // namespace passband
