// DeviceWeights: LlamaWeights in device memory.
//
// Threads    immutable after creation; safe.
// Ownership  owns the memory.
// Errors     device.h's.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/cuda/layer_math.h"
#include "llama/config.h"
#include "llama/weights.h"

namespace passband {

struct DeviceLinear {
  uint32_t outputs = 0;
  uint32_t inputs = 0;
  kernels::cuda::Memory weight;
  kernels::cuda::Memory bias;  // float; empty: none
};

struct DeviceLayer {
  kernels::cuda::Memory attention_norm;  // norms are float
  DeviceLinear qkv;
  DeviceLinear output;
  kernels::cuda::Memory mlp_norm;
  DeviceLinear gate_up;
  DeviceLinear down;
};

struct DeviceWeights {
  kernels::DType dtype = kernels::DType::kBf16;  // of matrices
  DeviceLinear embedding;
  std::vector<DeviceLayer> layers;
  kernels::cuda::Memory norm;
  DeviceLinear head;  // without weight when tied
  uint64_t parameters = 0;
  uint64_t bytes = 0;

  const DeviceLinear& output_head() const { return head.outputs == 0 ? embedding : head; }
};

StatusOr<DeviceWeights> UploadWeights(const LlamaConfig& config, const LlamaWeights& weights,
                                      kernels::cuda::StreamHandle stream);
StatusOr<DeviceWeights> RandomWeights(const LlamaConfig& config, uint64_t seed,
                                      kernels::cuda::StreamHandle stream);

}  // namespace passband
