// AttentionBackend: where a layer's attention happens.
//
// The model computes queries, keys and values; keys and values live in
// Passband, so attention over them is the backend's work. Forward() calls
// Attend once per layer with the whole batch, layers in order:
//
//   prefill     one item, count = the prompt's tokens: append the rows, attend
//               causally to everything up to each position
//   decode      one item per sequence, count = 1 each
//   evaluation  one item, count = 640, say: the backend walks position by
//               position, as if each had been decoded on its own
//
// Shapes     queries, out: [count][q_heads][head_dim] float, queries after RoPE.
//            rows: [kv_head][count][K | V] in the model's kv_dtype, K after
//            RoPE. These rounded values are what attention must read, for the
//            new tokens too; position p sees rows [0, p].
// Threads    called from the thread that called Forward.
// Ownership  every pointer lives until Attend returns. `handle` is the
//            caller's own name for a sequence; the model only passes it on.
// Errors     an error ends Forward and is returned from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"

namespace passband {

struct AttendItem {
  uint64_t handle = 0;
  uint64_t first_position = 0;
  uint32_t count = 0;
  const float* queries = nullptr;
  const std::byte* rows = nullptr;
  float* out = nullptr;
};

struct AttendArgs {
  uint32_t layer = 0;
  std::span<const AttendItem> items;
};

class AttentionBackend {
 public:
  virtual ~AttentionBackend() = default;
  virtual Status Attend(const AttendArgs& args) = 0;
};

}  // namespace passband
