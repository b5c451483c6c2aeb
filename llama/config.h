// LlamaConfig: the architecture that a config.json describes.
//
// Llama, Mistral and Qwen2 in Transformers form: grouped-query attention, RoPE
// in the half layout, RMSNorm, SwiGLU. What this forward pass cannot compute
// exactly (sliding windows, other RoPE scalings, other activations) is refused
// with the reason, never approximated.
//
// Threads  a plain value.
// Errors   kNotFound          no config.json
//          kInvalidArgument   malformed or contradictory
//          kUnimplemented     a feature this model code does not have
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "kernels/types.h"

namespace passband {

enum class RopeScaling : uint8_t { kNone, kLinear, kLlama3 };

struct RopeConfig {
  double theta = 10000.0;
  uint32_t rotary_dim = 128;  // first dims of a head that are rotated; even
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;               // linear, llama3
  double low_freq_factor = 1.0;      // llama3
  double high_freq_factor = 4.0;     // llama3
  double original_positions = 8192;  // llama3

  bool operator==(const RopeConfig&) const = default;
};

struct LlamaConfig {
  std::string model_type;  // llama, mistral or qwen2
  uint32_t layers = 0;
  uint32_t hidden_size = 0;
  uint32_t intermediate_size = 0;
  uint32_t q_heads = 0;
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t vocab_size = 0;
  uint32_t max_positions = 0;
  double rms_norm_eps = 1e-5;
  bool tie_word_embeddings = false;
  bool qkv_bias = false;     // biases of q, k and v (Qwen2, or attention_bias)
  bool output_bias = false;  // bias of o (Llama's attention_bias)
  bool mlp_bias = false;
  RopeConfig rope;
  kernels::DType kv_dtype = kernels::DType::kBf16;  // torch_dtype: how rows are stored

  // Query heads that share a kv head.
  uint32_t group() const { return q_heads / kv_heads; }
  // One kv head as it is stored.
  kernels::HeadShape head_shape() const;
  // Multiplies q . k: 1 / sqrt(head_dim).
  float attention_scale() const;
  // Bytes of one token's rows of one layer, all kv heads.
  uint64_t layer_row_bytes() const { return kv_heads * head_shape().row_bytes(); }

  bool operator==(const LlamaConfig&) const = default;
};

// `source` names the text in messages.
StatusOr<LlamaConfig> ParseLlamaConfig(const std::string& json_text, const std::string& source);

// Reads `folder`/config.json.
StatusOr<LlamaConfig> LoadLlamaConfig(const std::string& folder);

}  // namespace passband
