// DeviceEngine: attention of one model on a GPU, with the rows there or in the service.
//
//   full    exact attention over rows on the GPU
//   fasa-c  tip -> select -> fac over rows on the GPU: only the selected are read
//   fasa-m  tip -> select -> hot rows -> one fetch -> fac; the rows are in the service
//
// Work is enqueued on the engine's stream. Only fasa-m waits for the GPU within a step,
// to learn which rows are missing.
//
// Units      tokens; rows as [K | V] in bf16.
// Threads    one at a time, also over all its sequences.
// Ownership  shares the profile, borrows service and stream; outlives its sequences.
// Errors     what the service says; kInvalidArgument for shapes; kOutOfRange for a layer
//            that is not at the given position, or a sequence that is full;
//            kResourceExhausted with the bytes of device memory needed and held.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/select.h"
#include "sdk/device/device_sequence.h"
#include "sdk/engine.h"
#include "sdk/kv_service.h"

namespace passband {

struct DeviceEngineOptions {
  DeviceMethod method = DeviceMethod::kFull;
  kernels::SelectOptions select;
  uint32_t hot_rows = 0;  // row slots a (layer, kv head); 0: 4 x budget
  float scale = 0;        // of the logits; 0: 1 / sqrt(head_dim)
  kernels::cuda::StreamHandle stream = nullptr;
};

// New tokens of one layer: one for each of `sequences`. Row and problem strides are in
// bytes: problem p = sequence * kv_heads + kv head has its row at rows + p * row_stride.
struct DeviceStep {
  std::span<DeviceSequence* const> sequences;
  const float* queries = nullptr;  // device, [sequences][query_heads][head_dim]
  const std::byte* rows = nullptr;
  size_t row_stride = 0;
  float* out = nullptr;  // device, as queries
};

// A piece of a prompt: tokens [first, first + count) of one layer.
struct DevicePrompt {
  DeviceSequence* sequence = nullptr;
  uint64_t first = 0;
  uint32_t count = 0;
  const float* queries = nullptr;   // device, [count][query_heads][head_dim]
  const std::byte* rows = nullptr;  // device, [kv_head][count][row_bytes]
  float* out = nullptr;
};

class DeviceEngine {
 public:
  // `service` may be null but for kFasaM, `profile` for kFull.
  static StatusOr<std::unique_ptr<DeviceEngine>> Create(KvService* service, const ModelInfo& model,
                                                        std::shared_ptr<const Profile> profile,
                                                        const DeviceEngineOptions& options);
  ~DeviceEngine();

  // A sequence for up to `capacity` tokens. With kFasaM a cached prefix of token_ids is
  // attached: its slices are brought, its rows are not.
  StatusOr<std::unique_ptr<DeviceSequence>> Open(std::span<const uint32_t> token_ids,
                                                 uint64_t capacity, bool share_prefix = true);

  // Exact causal attention of a piece of a prompt, whose rows are kept or sent.
  Status Prompt(uint32_t layer, const DevicePrompt& prompt);
  // The same rows without attention, as another worker would have computed them.
  Status AppendRows(uint32_t layer, const DevicePrompt& prompt);
  // Attention of one new token for each sequence.
  Status Step(uint32_t layer, const DeviceStep& step);

  // What a problem of the last step attended to, in rising order; waits. Not for kFull.
  StatusOr<std::vector<uint32_t>> LastSelection(uint32_t problem) const;

  EngineStats stats() const;
  void ResetStats();
  const ModelInfo& model() const;
  const DeviceEngineOptions& options() const;
  KvService* service() const;
  uint64_t scratch_bytes() const;  // device memory beside the sequences'

 private:
  struct Impl;
  explicit DeviceEngine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace passband
