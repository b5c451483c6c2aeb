// TIP's queries, made ready once a block: rounded to integer levels for the int
// encodings as kernels/tip.h defines it, bit for bit as on the CPU; floats for the
// others.
//
// Contract  called by all threads of a block together, which must pass a barrier before
//           they read the result.
#pragma once

#include <cuda_runtime.h>

#include <cfloat>
#include <cstdint>

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/codes.cuh"
#include "kernels/cuda/slices.h"

namespace passband::kernels::cuda {

inline constexpr int kMaxComponents = 2 * kMaxChunks;
inline constexpr float kLog2E = 1.44269504F;
// Logits are kept within this, in log2, so that their differences stay exact enough.
inline constexpr float kMaxLog2 = 0x1p18F;

// kHeads query heads; those past the group are zero. A product times `scale` is a log2.
template <int kHeads>
struct TipQuery {
  uint32_t levels[kHeads][kMaxComponents / 4];  // int8, four to a word
  float values[kMaxComponents * kHeads];        // int: [head][component], else the transpose
  float scale[kHeads];
  bool narrow[kHeads];  // logits need no exponent taken off, and the scale is exact enough
  __device__ bool AllNarrow() const {
    bool all = true;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) all = all && narrow[h];
    return all;
  }
};

struct QuerySource {
  const void* queries;  // of the first head of the group
  bool bf16;
  float scale;
  __device__ float Load(uint32_t head, uint32_t head_dim, uint32_t dim) const {
    const uint32_t at = head * head_dim + dim;
    return bf16 ? WidenBf16(static_cast<const uint16_t*>(queries)[at])
                : static_cast<const float*>(queries)[at];
  }
};

// The step between levels that are at least `least` apart, in log2.
__device__ inline float Log2Step(float least) {
  const float step = __fmul_rn(least, kLog2E);
  if (!(step >= 0x1p-18F && step < 1)) return step;
  return __fmul_rn(ceilf(__fmul_rn(step, 0x1p23F)), 0x1p-23F);
}

// The sums of int2's magnitudes over the components of 16 bit words: the largest.
__device__ inline float LargestWord(const float* products, uint32_t components) {
  float largest = 0;
  for (uint32_t begin = Lane() * 8; begin < components; begin += kWarp * 8) {
    float sum = 0;
    for (uint32_t j = begin; j < begin + 8 && j < components; ++j) {
      sum = __fadd_rn(sum, fabsf(products[j]));
    }
    largest = fmaxf(largest, sum);
  }
  return WarpMax(largest);
}

// Sums that are read off the mantissa of 1.5 * 2^23 (tip_tile.cuh).
inline constexpr float kSumStart = 12582912.0F;
// All logits within this, in log2, need no largest one to be taken off.
inline constexpr float kNarrowLog2 = 100.0F;

// The products of what decoding multiplies by; NaN counts as 0.
template <int kHeads>
__device__ void QueryProducts(const SliceShape& shape, const DeviceRecipe& recipe,
                              const QuerySource& source, uint32_t group, TipQuery<kHeads>& query) {
  const uint32_t components = shape.components();
  for (uint32_t i = threadIdx.x; i < kHeads * components; i += blockDim.x) {
    const uint32_t head = i / components;
    const uint32_t j = i % components;
    float product = 0;
    if (head < group) {
      const float q = source.Load(head, shape.head.head_dim, recipe.dims[j]);
      const float unit = __fmul_rn(recipe.deviation[j], StepOf(shape.encoding));
      product = __fmul_rn(__fmul_rn(q, source.scale), unit);
    }
    query.values[head * kMaxComponents + j] = product == product ? product : 0.0F;
  }
}

// One head, by one warp.
template <int kHeads>
__device__ void RoundHead(const SliceShape& shape, uint32_t head, TipQuery<kHeads>& query) {
  const uint32_t components = shape.components();
  const bool two_bits = shape.encoding == SliceEncoding::kInt2;
  const float* products = query.values + head * kMaxComponents;
  float largest = 0;
  for (uint32_t j = Lane(); j < components; j += kWarp) {
    largest = fmaxf(largest, fabsf(products[j]));
  }
  largest = two_bits ? LargestWord(products, components) : WarpMax(largest);
  const float log2_step = Log2Step(__fdiv_rn(largest, two_bits ? 81.0F : 127.0F));
  const float step = __fdiv_rn(log2_step, kLog2E);
  const bool any = step >= FLT_MIN && log2_step <= FLT_MAX;
  auto* levels = reinterpret_cast<int8_t*>(query.levels[head]);
  uint32_t span = 0;
  for (uint32_t j = Lane(); j < kMaxComponents; j += kWarp) {
    const int level = j < components && any ? __float2int_rn(__fdiv_rn(products[j], step)) : 0;
    levels[j] = static_cast<int8_t>(level);
    span += abs(level);
  }
  const int top = LevelsOf(shape.encoding) - 1;
  const float most = static_cast<float>(WarpSum(span) * top);
  const int bound = top * 127 * static_cast<int>(components);
  if (Lane() != 0) return;
  const float scale = any ? fminf(log2_step, __fdiv_rn(kMaxLog2, __int2float_rn(bound))) : 0.0F;
  const float start = __fmul_rn(kSumStart, scale);
  query.scale[head] = scale;
  query.narrow[head] = most * scale <= kNarrowLog2 && __fmaf_rn(kSumStart, scale, -start) == 0;
}

template <int kHeads>
__device__ void PrepareQuery(const SliceShape& shape, const DeviceRecipe& recipe,
                             const QuerySource& source, uint32_t group, TipQuery<kHeads>& query) {
  if (IsIntEncoding(shape.encoding)) {
    QueryProducts(shape, recipe, source, group, query);
    __syncthreads();
    if (WarpOfBlock() < kHeads) RoundHead(shape, WarpOfBlock(), query);
    return;
  }
  if (threadIdx.x < kHeads) {
    query.scale[threadIdx.x] = 1.0F;
    query.narrow[threadIdx.x] = false;
  }
  for (uint32_t i = threadIdx.x; i < kMaxComponents * kHeads; i += blockDim.x) {
    const uint32_t head = i % kHeads;
    const uint32_t j = i / kHeads;
    float value = 0;
    if (head < group && j < shape.components()) {
      const float q = source.Load(head, shape.head.head_dim, recipe.dims[j]);
      value = __fmul_rn(__fmul_rn(q, source.scale), kLog2E);
    }
    query.values[i] = value;
  }
}

}  // namespace passband::kernels::cuda
