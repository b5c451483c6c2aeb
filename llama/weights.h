// LlamaWeights: a checkpoint's tensors as float matrices, ready to multiply.
//
// q, k, v are one matrix, and so are gate and up: fewer and larger products.
//
// Memory   4 bytes per parameter.
// Threads  immutable after loading; safe.
// Errors   kInvalidArgument: a tensor is missing, has another shape than the
//          config says, or another element type than F32, F16, BF16.
#pragma once

#include <cstddef>
#include <vector>

#include "base/status.h"
#include "llama/config.h"
#include "llama/safetensors.h"

namespace passband {

// y = W x + b, W stored [outputs][inputs].
struct Linear {
  size_t outputs = 0;
  size_t inputs = 0;
  std::vector<float> weight;
  std::vector<float> bias;  // empty, or [outputs]
};

struct LayerWeights {
  std::vector<float> attention_norm;
  Linear qkv;  // outputs: queries, keys, values
  Linear output;
  std::vector<float> mlp_norm;
  Linear gate_up;  // outputs: gate, up
  Linear down;
};

struct LlamaWeights {
  Linear embedding;  // [vocab][hidden]; also the head when tied
  std::vector<LayerWeights> layers;
  std::vector<float> norm;
  Linear head;  // empty when tied

  const Linear& output_head() const { return head.weight.empty() ? embedding : head; }
  uint64_t parameters() const;
};

StatusOr<LlamaWeights> LoadWeights(const LlamaConfig& config, const Safetensors& tensors);

}  // namespace passband
