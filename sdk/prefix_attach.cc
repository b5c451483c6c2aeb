#include "sdk/prefix_attach.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>

namespace passband {
namespace {

// Bounds what one answer brings; with several on their way the wire stays busy.
constexpr uint64_t kWindowTokens = 16384;
constexpr size_t kRequestsInFlight = 4;

struct Window {
  uint32_t layer;
  uint64_t count;
  std::unique_ptr<PendingRows> pending;
};

Status Take(SequenceState& sequence, Window window) {
  PASSBAND_ASSIGN_OR_RETURN(const auto slices, window.pending->Wait());
  const SequenceConfig& config = sequence.config();
  const uint64_t head_bytes = window.count * config.profile->slice_bytes();
  if (slices.size() != config.model.kv_heads * head_bytes) {
    return Error(StatusCode::kInternal, "got {} bytes of slices of {} tokens of sequence {}",
                 slices.size(), window.count, sequence.id());
  }
  const std::byte* next = slices.data();
  for (SequenceState::Head& head : sequence.layer(window.layer).heads) {
    head.slices->AppendSlices(next, window.count);
    next += head_bytes;
  }
  return OkStatus();
}

}  // namespace

Status AttachSlices(SequenceState& sequence, uint64_t tokens) {
  const SequenceConfig& config = sequence.config();
  if (!config.profile) return OkStatus();
  std::deque<Window> in_flight;
  const auto take_oldest = [&] {
    Window oldest = std::move(in_flight.front());
    in_flight.pop_front();
    return Take(sequence, std::move(oldest));
  };
  for (uint32_t layer = 0; layer < config.model.layers; ++layer) {
    for (uint64_t first = 0; first < tokens; first += kWindowTokens) {
      const uint64_t count = std::min(kWindowTokens, tokens - first);
      in_flight.push_back(
          {layer, count,
           config.service->StartSlices(
               {.sequence = sequence.id(), .layer = layer, .first_token = first, .count = count},
               config.profile)});
      if (in_flight.size() == kRequestsInFlight) PASSBAND_RETURN_IF_ERROR(take_oldest());
    }
  }
  while (!in_flight.empty()) PASSBAND_RETURN_IF_ERROR(take_oldest());
  return OkStatus();
}

}  // namespace passband
