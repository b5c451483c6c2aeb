// DenseCausalAttention: exact attention of a range of positions to everything
// before them. For prefill, and the baseline that sparse decoding is held to.
//
// Works on tiles of 128 queries x 512 keys with a running softmax, so its
// memory is a few MiB per thread for any context.
//
// Shapes   queries, out: [count][q_heads][head_dim] float, after RoPE.
//          head_rows: one pointer per kv head, to the rows [K | V] of positions
//          [0, first_position + count) in order.
// Result   position p attends to rows [0, p]; fp32 throughout.
// Threads  safe; spreads the work over `pool`.
// Errors   none: shapes are the caller's promise (checked).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/types.h"
#include "llama/worker_pool.h"

namespace passband {

struct DenseAttentionArgs {
  kernels::HeadShape shape;
  uint32_t q_heads = 0;  // a multiple of head_rows.size()
  float scale = 1.0F;
  uint64_t first_position = 0;
  uint32_t count = 0;
  const float* queries = nullptr;
  std::span<const std::byte* const> head_rows;
  float* out = nullptr;
};

void DenseCausalAttention(const DenseAttentionArgs& args, WorkerPool& pool);

}  // namespace passband
