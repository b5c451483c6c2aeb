// Dense causal attention on the GPU: exact attention of a range of positions to all
// before them, for prompts.
//
// Shapes   queries, out [count][q_heads][head_dim] float; rows bf16 [K | V], those of kv
//          head h from head_rows[h] on, positions [0, first + count) in order.
// Result   position p attends to rows [0, p]; float products and sums.
// Stream   one launch, nothing waits; capturable.
// Threads  safe.
// Errors   rows that are not bf16 and head dims other than 64, 80, 96, 128 and 256 are
//          kUnimplemented.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "kernels/cuda/device.h"
#include "kernels/types.h"

namespace passband::kernels::cuda {

inline constexpr uint32_t kMaxDenseHeads = 128;  // kv heads

struct DenseArgs {
  HeadShape shape;
  uint32_t q_heads = 1;
  uint32_t kv_heads = 1;
  float scale = 1.0F;
  uint32_t first = 0;
  uint32_t count = 0;
  const float* queries = nullptr;                   // device
  const std::byte* head_rows[kMaxDenseHeads] = {};  // device, of each kv head
  float* out = nullptr;                             // device
};
absl::Status DenseAttention(const DenseArgs& args, StreamHandle stream);

}  // namespace passband::kernels::cuda
