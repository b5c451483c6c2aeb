#include "sdk/device/device_sequence.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"

namespace passband {
namespace {

using kernels::cuda::Memory;
using kernels::cuda::MemoryKind;

uint64_t RoundUp(uint64_t tokens) {
  constexpr uint64_t kUnit = kernels::cuda::kTileTokens;
  return (tokens + kUnit - 1) / kUnit * kUnit;
}

}  // namespace

DeviceSequence::DeviceSequence(const DeviceShape& shape, uint64_t capacity, SequenceId id,
                               uint64_t attached)
    : shape_(shape), capacity_(RoundUp(capacity)), id_(id), attached_(attached) {
  layers_.resize(shape.model.layers, {.length = attached, .sent = attached, .stored = attached});
}

StatusOr<std::unique_ptr<DeviceSequence>> DeviceSequence::Create(const DeviceShape& shape,
                                                                 uint64_t capacity, SequenceId id,
                                                                 uint64_t attached) {
  std::unique_ptr<DeviceSequence> out(new DeviceSequence(shape, capacity, id, attached));
  if (const Status status = out->Allocate(); !status.ok()) {
    return Annotate(status, fmt::format("a sequence of {} tokens, of which the device holds {} "
                                        "bytes so far",
                                        out->capacity_, out->device_bytes()));
  }
  return out;
}

Status DeviceSequence::Allocate() {
  const size_t heads = shape_.heads();
  const size_t row_bytes = shape_.row_bytes();
  if (shape_.has_rows()) {
    PASSBAND_ASSIGN_OR_RETURN(rows_, Memory::Allocate(heads * capacity_ * row_bytes));
  }
  if (shape_.has_slices()) {
    PASSBAND_ASSIGN_OR_RETURN(tiles_,
                              Memory::Allocate(heads * shape_.slice.index_bytes(capacity_)));
  }
  if (shape_.method != DeviceMethod::kFasaM) return OkStatus();
  const size_t slots = shape_.slots;
  PASSBAND_ASSIGN_OR_RETURN(hot_rows_, Memory::Allocate(heads * slots * row_bytes));
  PASSBAND_ASSIGN_OR_RETURN(hot_tables_, Memory::Allocate(heads * (slots * 8 + capacity_ * 2)));
  PASSBAND_RETURN_IF_ERROR(hot_tables_.Fill(0xff, shape_.stream));
  PASSBAND_ASSIGN_OR_RETURN(
      tail_, Memory::Allocate(heads * kBlockTokens * row_bytes, MemoryKind::kPinned));
  return OkStatus();
}

DeviceSequence::~DeviceSequence() {
  if (shape_.method != DeviceMethod::kFasaM || sealed_) return;
  const Status closed = shape_.service->Close(id_);
  if (!closed.ok()) log::Warn("sequence_close_failed", {{"sequence", id_}, {"why", closed}});
}

std::byte* DeviceSequence::rows(uint32_t layer, uint32_t kv_head) const {
  return rows_.data() + head_index(layer, kv_head) * capacity_ * shape_.row_bytes();
}

std::byte* DeviceSequence::tiles(uint32_t layer, uint32_t kv_head) const {
  return tiles_.data() + head_index(layer, kv_head) * shape_.slice.index_bytes(capacity_);
}

kernels::cuda::HotSlots DeviceSequence::hot(uint32_t layer, uint32_t kv_head) const {
  const size_t head = head_index(layer, kv_head);
  const size_t heads = shape_.heads();
  const size_t slots = shape_.slots;
  auto* words = hot_tables_.data<uint32_t>();
  return {.rows = hot_rows_.data() + head * slots * shape_.row_bytes(),
          .token_of = words + head * slots,
          .stamps = words + (heads + head) * slots,
          .slot_of = reinterpret_cast<uint16_t*>(words + 2 * heads * slots) + head * capacity_,
          .tail = tail_.data() + head * kBlockTokens * shape_.row_bytes()};
}

std::byte* DeviceSequence::tail(uint32_t layer, uint32_t kv_head, uint64_t token) const {
  return tail_.data() +
         (head_index(layer, kv_head) * kBlockTokens + token % kBlockTokens) * shape_.row_bytes();
}

Status DeviceSequence::SendTail(uint32_t layer, uint64_t tokens) {
  Layer& state = layers_[layer];
  if (state.sent >= tokens) return OkStatus();
  const size_t row_bytes = shape_.row_bytes();
  const uint64_t count = tokens - state.sent;
  const size_t head_bytes = count * row_bytes;
  send_scratch_.resize(shape_.model.kv_heads * head_bytes);
  for (uint32_t head = 0; head < shape_.model.kv_heads; ++head) {
    std::memcpy(send_scratch_.data() + head * head_bytes, tail(layer, head, state.sent),
                head_bytes);
  }
  PASSBAND_RETURN_IF_ERROR(shape_.service->Append({.sequence = id_,
                                                   .layer = layer,
                                                   .first_token = state.sent,
                                                   .count = static_cast<uint32_t>(count),
                                                   .rows = send_scratch_}));
  state.sent = tokens;
  return OkStatus();
}

Status DeviceSequence::WaitStored() {
  PASSBAND_RETURN_IF_ERROR(shape_.service->Flush(id_));
  for (Layer& layer : layers_) layer.stored = layer.sent;
  return OkStatus();
}

Status DeviceSequence::Flush() {
  for (uint32_t layer = 0; layer < layers_.size(); ++layer) {
    PASSBAND_RETURN_IF_ERROR(SendTail(layer, layers_[layer].length));
  }
  return WaitStored();
}

Status DeviceSequence::Seal() {
  if (sealed_) return OkStatus();
  PASSBAND_RETURN_IF_ERROR(Flush());
  PASSBAND_RETURN_IF_ERROR(shape_.service->Seal(id_));
  sealed_ = true;
  return OkStatus();
}

Status DeviceSequence::Truncate(uint64_t tokens) {
  if (shape_.method == DeviceMethod::kFasaM) {
    PASSBAND_RETURN_IF_ERROR(Flush());
    PASSBAND_RETURN_IF_ERROR(shape_.service->Truncate(id_, tokens));
    std::vector<kernels::cuda::HotSlots> slots;
    for (uint32_t head = 0; head < shape_.heads(); ++head) slots.push_back(hot(0, head));
    PASSBAND_ASSIGN_OR_RETURN(const Memory table,
                              Memory::Allocate(slots.size() * sizeof(slots[0])));
    PASSBAND_RETURN_IF_ERROR(
        table.CopyIn(slots.data(), slots.size() * sizeof(slots[0]), shape_.stream));
    PASSBAND_RETURN_IF_ERROR(kernels::cuda::TruncateHotRows(
        table.data<kernels::cuda::HotSlots>(), static_cast<int>(slots.size()), shape_.slots,
        static_cast<uint32_t>(tokens), shape_.stream));
  }
  for (Layer& layer : layers_) {
    layer.length = std::min(layer.length, tokens);
    layer.sent = std::min(layer.sent, tokens);
    layer.stored = std::min(layer.stored, tokens);
  }
  return OkStatus();
}

}  // namespace passband
