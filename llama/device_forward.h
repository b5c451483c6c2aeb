// DeviceForward: the model's forward pass on a GPU: weights, activations and products
// there, attention delegated as on the CPU (attention_backend.h), but with pointers into
// device memory and work enqueued on stream().
//
// Numbers    weights in float up to 1 GiB of them, in bf16 beyond; activations are float
//            and rounded to bf16 where they meet bf16 weights. Rows are bf16.
// Memory     on the device: weights, and per position of the largest Forward about
//            (2 * hidden_size + 4 * q_heads * head_dim) * 4 bytes + layer_row_bytes.
// Threads    one caller at a time.
// Errors     kUnimplemented where this build or model has no GPU code,
//            kFailedPrecondition without a usable GPU or driver, kUnavailable without
//            cuBLAS, kResourceExhausted with the bytes that device memory lacks; then the
//            backend's.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/device.h"
#include "llama/attention_backend.h"
#include "llama/model.h"
#include "llama/weights.h"

namespace passband {

class DeviceForward {
 public:
  static StatusOr<std::unique_ptr<DeviceForward>> Create(const LlamaConfig& config,
                                                         const LlamaWeights& weights);
  // Weights made on the GPU: normal numbers, the same for the same seed.
  static StatusOr<std::unique_ptr<DeviceForward>> CreateRandom(const LlamaConfig& config,
                                                               uint64_t seed);
  ~DeviceForward();
  DeviceForward(const DeviceForward&) = delete;
  DeviceForward& operator=(const DeviceForward&) = delete;

  // As LlamaModel::Forward; the batch is checked already.
  StatusOr<Logits> Forward(std::span<const BatchItem> batch, AttentionBackend& backend);
  // The likeliest token of every asked position, found on the GPU.
  StatusOr<std::vector<uint32_t>> ForwardGreedy(std::span<const BatchItem> batch,
                                                AttentionBackend& backend);

  kernels::cuda::StreamHandle stream() const;
  uint64_t device_bytes() const;
  uint64_t parameters() const;

 private:
  struct Impl;
  explicit DeviceForward(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace passband
