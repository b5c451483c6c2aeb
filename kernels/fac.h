// FAC, focused attention computation: exact softmax attention of a GQA group
// over chosen rows, at their original positions (RoPE is already in the keys).
//
//   out[h] = sum_i softmax_i(scale * q[h] . K[i]) V[i]
//
// Shapes   queries, out: [group][head_dim] float. A row is [K | V], head_dim
//          elements of shape.dtype each.
// Result   fp32 accumulation, softmax with the running maximum removed; a weight
//          below 2^-126 of the largest counts as that. Overflowing scores count
//          as the largest float, so finite rows give finite results. With no
//          rows, out is zero.
// Threads  safe; pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/types.h"

namespace passband::kernels {

struct FacParams {
  HeadShape shape;
  int group = 1;
  float scale = 1.0F;
  const float* queries = nullptr;
  float* out = nullptr;
};

// Optional by-products for evaluation: per query head the row with all
// softmax weights, [group][rows]; null when not wanted.
//
// Rows scattered in memory: rows[i] points at a row.
void Fac(const FacParams& params, std::span<const std::byte* const> rows, float* weights = nullptr);

// Full attention, the baseline: `tokens` rows one after the other.
void FacContiguous(const FacParams& params, const std::byte* rows, size_t tokens,
                   float* weights = nullptr);

}  // namespace passband::kernels
