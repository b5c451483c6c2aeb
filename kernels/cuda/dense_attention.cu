#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <string>

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/dense_attention.h"
#include "kernels/cuda/status.h"

namespace passband::kernels::cuda {
namespace {

// A block takes 16 positions of one query head and walks the rows 32 at a time, which lie
// in shared memory as float pairs. A warp has 4 of the positions; its lane is a row when
// scores are made, and a share of the dimensions when values are added.
constexpr uint32_t kThreads = 128;
constexpr uint32_t kWarps = kThreads / kWarp;
constexpr uint32_t kOwn = 4;  // positions of a warp
constexpr uint32_t kPositions = kWarps * kOwn;
constexpr uint32_t kRows = 32;

template <uint32_t kDim>
struct DenseShared {
  float query[kPositions][kDim];
  // A row is 4 bytes longer than it need be, so that lanes hit banks of their own.
  __nv_bfloat162 key[kRows][kDim / 2 + 1];
  __nv_bfloat162 value[kRows][kDim / 2];
};

template <uint32_t kDim>
__device__ void LoadRows(const std::byte* rows, uint32_t begin, uint32_t end,
                         DenseShared<kDim>& s) {
  constexpr uint32_t kPairs = kDim / 2;
  for (uint32_t i = threadIdx.x; i < kRows * kPairs; i += kThreads) {
    const uint32_t row = i / kPairs;
    __nv_bfloat162 key = {};
    __nv_bfloat162 value = {};
    if (begin + row < end) {
      const auto* from =
          reinterpret_cast<const __nv_bfloat162*>(rows + size_t{begin + row} * kDim * 4);
      key = from[i % kPairs];
      value = from[kPairs + i % kPairs];
    }
    s.key[row][i % kPairs] = key;
    s.value[row][i % kPairs] = value;
  }
}

template <uint32_t kDim>
__device__ void Scores(const DenseShared<kDim>& s, float (&score)[kOwn]) {
  const uint32_t first = WarpOfBlock() * kOwn;
#pragma unroll 8
  for (uint32_t d = 0; d < kDim / 2; ++d) {
    const float2 key = __bfloat1622float2(s.key[Lane()][d]);
#pragma unroll
    for (uint32_t n = 0; n < kOwn; ++n) {
      const float2 query = *reinterpret_cast<const float2*>(&s.query[first + n][2 * d]);
      score[n] = fmaf(query.x, key.x, fmaf(query.y, key.y, score[n]));
    }
  }
}

template <uint32_t kDim>
struct DenseState {
  static constexpr uint32_t kPairs = kDim / 2;
  static constexpr uint32_t kLanePairs = (kPairs + kWarp - 1) / kWarp;
  float most[kOwn];
  float total[kOwn];
  float2 sum[kOwn][kLanePairs];
};

template <uint32_t kDim>
__device__ void AddValues(const DenseShared<kDim>& s, const float (&weight)[kOwn],
                          DenseState<kDim>& state) {
  using State = DenseState<kDim>;
#pragma unroll 4
  for (uint32_t row = 0; row < kRows; ++row) {
#pragma unroll
    for (uint32_t p = 0; p < State::kLanePairs; ++p) {
      const uint32_t pair = p * kWarp + Lane();
      const float2 value =
          pair < State::kPairs ? __bfloat1622float2(s.value[row][pair]) : make_float2(0, 0);
#pragma unroll
      for (uint32_t n = 0; n < kOwn; ++n) {
        const float w = __shfl_sync(kAllLanes, weight[n], row);
        state.sum[n][p].x = fmaf(w, value.x, state.sum[n][p].x);
        state.sum[n][p].y = fmaf(w, value.y, state.sum[n][p].y);
      }
    }
  }
}

__device__ float WarpTotal(float value) {
  for (uint32_t step = kWarp / 2; step > 0; step /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, step);
  }
  return value;
}

// `position` is that of the warp's first.
template <uint32_t kDim>
__device__ void AttendTile(const DenseArgs& args, uint32_t position, uint32_t begin,
                           const DenseShared<kDim>& s, DenseState<kDim>& state) {
  float score[kOwn] = {};
  Scores(s, score);
#pragma unroll
  for (uint32_t n = 0; n < kOwn; ++n) {
    const bool seen = begin + Lane() <= position + n;
    const float mine = seen ? score[n] * args.scale : -INFINITY;
    const float most = fmaxf(state.most[n], WarpMax(mine));
    const float keep = most == -INFINITY ? 1.0F : expf(state.most[n] - most);
    score[n] = seen ? expf(mine - most) : 0.0F;
    state.most[n] = most;
    state.total[n] = state.total[n] * keep + WarpTotal(score[n]);
    for (float2& sum : state.sum[n]) {
      sum.x *= keep;
      sum.y *= keep;
    }
  }
  AddValues(s, score, state);
}

template <uint32_t kDim>
__global__ void __launch_bounds__(kThreads) DenseKernel(const __grid_constant__ DenseArgs args) {
  extern __shared__ uint4 dynamic_shared[];
  DenseShared<kDim>& s = *reinterpret_cast<DenseShared<kDim>*>(dynamic_shared);
  const uint32_t head = blockIdx.y;
  const uint32_t first = blockIdx.x * kPositions;  // within the range
  for (uint32_t i = threadIdx.x; i < kPositions * kDim; i += kThreads) {
    const uint32_t at = first + i / kDim;
    s.query[i / kDim][i % kDim] =
        at < args.count ? args.queries[(size_t{at} * args.q_heads + head) * kDim + i % kDim] : 0;
  }
  const std::byte* rows = args.head_rows[head / (args.q_heads / args.kv_heads)];
  const uint32_t end = args.first + min(first + kPositions, args.count);
  const uint32_t own = WarpOfBlock() * kOwn;
  DenseState<kDim> state = {};
  for (float& most : state.most) most = -INFINITY;
  for (uint32_t begin = 0; begin < end; begin += kRows) {
    __syncthreads();
    LoadRows(rows, begin, end, s);
    __syncthreads();
    AttendTile(args, args.first + first + own, begin, s, state);
  }
  for (uint32_t n = 0; n < kOwn; ++n) {
    const uint32_t at = first + own + n;
    if (at >= args.count) return;
    float* out = args.out + (size_t{at} * args.q_heads + head) * kDim;
    for (uint32_t p = 0; p < DenseState<kDim>::kLanePairs; ++p) {
      const uint32_t pair = p * kWarp + Lane();
      if (pair >= kDim / 2) continue;
      out[2 * pair] = state.sum[n][p].x / state.total[n];
      out[2 * pair + 1] = state.sum[n][p].y / state.total[n];
    }
  }
}

template <uint32_t kDim>
absl::Status Launch(const DenseArgs& args, StreamHandle stream) {
  constexpr int kShared = static_cast<int>(sizeof(DenseShared<kDim>));
  const auto kernel = DenseKernel<kDim>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  if (error != cudaSuccess) return FromCuda(error, "dense attention");
  const dim3 grid((args.count + kPositions - 1) / kPositions, args.q_heads);
  kernel<<<grid, kThreads, kShared, stream>>>(args);
  return FromCuda(cudaGetLastError(), "dense attention");
}

}  // namespace

absl::Status DenseAttention(const DenseArgs& args, StreamHandle stream) {
  if (args.count == 0) return absl::OkStatus();
  if (args.kv_heads > kMaxDenseHeads) {
    return absl::UnimplementedError("dense attention on a GPU: at most 128 kv heads");
  }
  if (args.shape.dtype != DType::kBf16) {
    return absl::UnimplementedError("dense attention on a GPU: rows are bf16");
  }
  switch (args.shape.head_dim) {
    case 64:
      return Launch<64>(args, stream);
    case 80:
      return Launch<80>(args, stream);
    case 96:
      return Launch<96>(args, stream);
    case 128:
      return Launch<128>(args, stream);
    case 256:
      return Launch<256>(args, stream);
    default:
      return absl::UnimplementedError("dense attention on a GPU: head_dim " +
                                      std::to_string(args.shape.head_dim) +
                                      "; 64, 80, 96, 128 and 256 are supported");
  }
}

}  // namespace passband::kernels::cuda
