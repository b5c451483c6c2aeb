#include <algorithm>
#include <cstring>

#include "kernels/cuda/dense_attention.h"
#include "kernels/cuda/hot_rows.h"
#include "sdk/device/device_engine_impl.h"

namespace passband {

namespace gpu = kernels::cuda;
using gpu::Memory;
using gpu::MemoryKind;

// All rows so far as [kv_head][first + count], on the device.
StatusOr<const std::byte*> DeviceEngine::Impl::JoinRows(uint32_t layer,
                                                        const DevicePrompt& prompt) {
  DeviceSequence& sequence = *prompt.sequence;
  if (sequence.attached_tokens() < prompt.first) PASSBAND_RETURN_IF_ERROR(sequence.Flush());
  const auto pending = shape.service->StartRead(
      {.sequence = sequence.id(), .layer = layer, .first_token = 0, .count = prompt.first});
  PASSBAND_ASSIGN_OR_RETURN(const auto before, pending->Wait());
  const uint32_t kv_heads = shape.model.kv_heads;
  const size_t before_bytes = prompt.first * shape.row_bytes();
  const size_t own_bytes = prompt.count * shape.row_bytes();
  const size_t head_bytes = before_bytes + own_bytes;
  if (layer_rows.bytes() < kv_heads * head_bytes) {
    layer_rows = Memory();
    PASSBAND_ASSIGN_OR_RETURN(layer_rows, Memory::Allocate(kv_heads * head_bytes));
  }
  for (size_t head = 0; head < kv_heads; ++head) {
    std::byte* out = layer_rows.data() + head * head_bytes;
    PASSBAND_RETURN_IF_ERROR(
        gpu::CopyToDevice(out, before.data() + head * before_bytes, before_bytes, stream()));
    PASSBAND_RETURN_IF_ERROR(
        gpu::CopyToDevice(out + before_bytes, prompt.rows + head * own_bytes, own_bytes, stream()));
  }
  PASSBAND_RETURN_IF_ERROR(gpu::Synchronize(stream()));
  return layer_rows.data();
}

Status DeviceEngine::Prompt(uint32_t layer, const DevicePrompt& prompt) {
  Impl& impl = *impl_;
  const std::byte* joined = nullptr;
  if (!impl.shape.has_rows()) {
    joined = prompt.rows;
    if (prompt.first > 0) {
      PASSBAND_ASSIGN_OR_RETURN(joined, impl.JoinRows(layer, prompt));
    }
  }
  PASSBAND_RETURN_IF_ERROR(AppendRows(layer, prompt));
  std::vector<const std::byte*> heads;
  for (uint32_t head = 0; head < impl.shape.model.kv_heads; ++head) {
    heads.push_back(joined != nullptr
                        ? joined + head * (prompt.first + prompt.count) * impl.shape.row_bytes()
                        : prompt.sequence->rows(layer, head));
  }
  gpu::DenseArgs args;
  args.shape = impl.shape.model.head;
  args.q_heads = impl.shape.model.query_heads;
  args.kv_heads = impl.shape.model.kv_heads;
  args.scale = impl.options.scale;
  args.first = static_cast<uint32_t>(prompt.first);
  args.count = prompt.count;
  args.queries = prompt.queries;
  std::copy(heads.begin(), heads.end(), args.head_rows);
  args.out = prompt.out;
  return gpu::DenseAttention(args, impl.stream());
}

Status DeviceEngine::AppendRows(uint32_t layer, const DevicePrompt& prompt) {
  Impl& impl = *impl_;
  DeviceSequence& sequence = *prompt.sequence;
  DeviceSequence::Layer& state = sequence.layer(layer);
  PASSBAND_RETURN_IF_ERROR(sequence.poison());
  if (state.length != prompt.first || prompt.count > sequence.capacity() - state.length) {
    return Error(StatusCode::kOutOfRange,
                 "tokens [{}, +{}) of layer {}, which has {} of at most {} tokens", prompt.first,
                 prompt.count, layer, state.length, sequence.capacity());
  }
  PASSBAND_RETURN_IF_ERROR(impl.Prepare(std::span(&prompt.sequence, 1)));
  PASSBAND_RETURN_IF_ERROR(impl.WriteNumbers(layer, std::span(&prompt.sequence, 1), prompt.count));
  const size_t stride = prompt.count * impl.shape.row_bytes();
  PASSBAND_RETURN_IF_ERROR(impl.KeepRows(layer, prompt.rows, stride, prompt.count));
  PASSBAND_RETURN_IF_ERROR(impl.KeepSlices(layer, 1, prompt.rows, stride, prompt.count));
  if (!impl.shape.has_rows()) PASSBAND_RETURN_IF_ERROR(impl.SendRows(layer, prompt));
  state.length += prompt.count;
  return OkStatus();
}

// Whole blocks go to the service, what is left to the tail.
Status DeviceEngine::Impl::SendRows(uint32_t layer, const DevicePrompt& prompt) {
  DeviceSequence& sequence = *prompt.sequence;
  const uint32_t kv_heads = shape.model.kv_heads;
  const size_t row_bytes = shape.row_bytes();
  const size_t bytes = kv_heads * prompt.count * row_bytes;
  if (host_rows.bytes() < bytes) {
    host_rows = Memory();
    PASSBAND_ASSIGN_OR_RETURN(host_rows, Memory::Allocate(bytes, MemoryKind::kPinned));
  }
  PASSBAND_RETURN_IF_ERROR(gpu::CopyToHost(host_rows.data(), prompt.rows, bytes, stream()));
  PASSBAND_RETURN_IF_ERROR(gpu::Synchronize(stream()));
  const uint64_t end = prompt.first + prompt.count;
  for (uint64_t token = prompt.first; token < end;) {
    const uint64_t count =
        std::min(DeviceSequence::kBlockTokens - token % DeviceSequence::kBlockTokens, end - token);
    for (uint32_t head = 0; head < kv_heads; ++head) {
      const std::byte* from =
          host_rows.data() + (head * prompt.count + token - prompt.first) * row_bytes;
      std::memcpy(sequence.tail(layer, head, token), from, count * row_bytes);
    }
    token += count;
    if (token % DeviceSequence::kBlockTokens == 0)
      PASSBAND_RETURN_IF_ERROR(sequence.SendTail(layer, token));
  }
  return OkStatus();
}

Status DeviceEngine::Impl::TakeSlices(DeviceSequence& sequence, uint32_t layer, uint64_t first,
                                      uint64_t count) {
  const auto pending = shape.service->StartSlices(
      {.sequence = sequence.id(), .layer = layer, .first_token = first, .count = count}, profile);
  PASSBAND_ASSIGN_OR_RETURN(const auto slices, pending->Wait());
  const uint32_t slice_bytes = shape.slice.slice_bytes();
  if (slices.size() != shape.model.kv_heads * count * slice_bytes) {
    return Error(StatusCode::kInternal, "got {} bytes of slices of {} tokens of sequence {}",
                 slices.size(), count, sequence.id());
  }
  PASSBAND_ASSIGN_OR_RETURN(const Memory there, Memory::Allocate(slices.size()));
  PASSBAND_RETURN_IF_ERROR(there.CopyIn(slices.data(), slices.size(), stream()));
  gpu::Words words = {};
  words.value[0] = static_cast<uint32_t>(first);
  PASSBAND_RETURN_IF_ERROR(gpu::WriteWords(words, 1, begin(), stream()));
  PASSBAND_RETURN_IF_ERROR(gpu::AppendSlices({.recipes = &recipes[layer],
                                              .sequences = 1,
                                              .tokens = static_cast<uint32_t>(count),
                                              .begin = begin(),
                                              .tiles = tables.tiles(layer),
                                              .data = there.data(),
                                              .problem_stride = count * slice_bytes,
                                              .token_stride = slice_bytes},
                                             stream()));
  return gpu::Synchronize(stream());
}

Status DeviceEngine::Impl::AttachSlices(DeviceSequence& sequence, uint64_t tokens) {
  constexpr uint64_t kWindowTokens = 16384;
  DeviceSequence* const one = &sequence;
  PASSBAND_RETURN_IF_ERROR(Prepare(std::span(&one, 1)));
  for (uint32_t layer = 0; layer < shape.model.layers; ++layer) {
    for (uint64_t first = 0; first < tokens; first += kWindowTokens) {
      PASSBAND_RETURN_IF_ERROR(
          TakeSlices(sequence, layer, first, std::min(kWindowTokens, tokens - first)));
    }
  }
  return OkStatus();
}

}  // namespace passband
