#include <cuda_runtime.h>

#include <cfloat>

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/cluster_launch.cuh"
#include "kernels/cuda/codes.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tip_query.cuh"

namespace passband::kernels::cuda {
namespace {

// A warp takes 16 rows at a time through m16n8k16 products of bf16:
//   scores   heads x head_dim times head_dim x rows. The heads' queries fill rows 0 to 7
//            of the first factor, what rounding them to bf16 lost rows 8 to 15.
//   values   heads x rows times rows x head_dim, the weights likewise in two parts. The
//            scores come out of the first product where the second wants them.
// The dimensions go in an order of their own, so that a lane loads 16 bytes of a row.
constexpr uint32_t kThreads = 128;
constexpr uint32_t kWarps = kThreads / kWarp;
constexpr uint32_t kTileRows = 16;
constexpr uint32_t kHeads = 8;

struct FacParams {
  uint32_t group;
  float scale;  // times log2(e)
  uint32_t max_rows;
  const uint32_t* counts;
  const std::byte* const* rows;
  const uint32_t* indices;
  const std::byte* const* pages;
  uint32_t pages_per_problem;
  uint32_t page_shift;
  const void* queries;
  bool queries_bf16;
  void* out;
  bool out_bf16;
};

template <int kDim>
struct FacShared {
  static constexpr int kKeyUnits = (kDim + 31) / 32;
  uint4 query[kKeyUnits][2][kWarp];  // for each lane, the rounded part and the rest
  float most[kWarps][kHeads];
  float total[kWarps][kHeads];
  float sum[kWarps][kHeads][kDim];  // of a warp; then [0] that of the block
  float block_most[kHeads];
  float block_total[kHeads];
  float share[kMaxCluster][kHeads];
};

__device__ inline uint32_t PackBf16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
// What PackBf16 lost.
__device__ inline uint32_t PackRest(float low, float high, uint32_t packed) {
  return PackBf16(low - __uint_as_float(packed << 16),
                  high - __uint_as_float(packed & 0xffff0000U));
}

__device__ inline void MultiplyAdd(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                   uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <int kDim>
__device__ void PrepareQueries(const FacParams& p, uint32_t problem, FacShared<kDim>& s) {
  constexpr uint32_t kUnits = FacShared<kDim>::kKeyUnits;
  for (uint32_t i = threadIdx.x; i < kUnits * kWarp; i += kThreads) {
    const uint32_t head = i % kWarp / 4;
    const uint32_t first = i / kWarp * 32 + i % 4 * 8;
    float q[8] = {};
    if (head < p.group && first < kDim) {
      const size_t at = (size_t{problem} * p.group + head) * kDim + first;
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        q[k] = p.queries_bf16 ? WidenBf16(static_cast<const uint16_t*>(p.queries)[at + k])
                              : static_cast<const float*>(p.queries)[at + k];
      }
    }
    uint32_t main[4];
    uint32_t rest[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      main[k] = PackBf16(q[2 * k], q[2 * k + 1]);
      rest[k] = PackRest(q[2 * k], q[2 * k + 1], main[k]);
    }
    s.query[i / kWarp][0][i % kWarp] = make_uint4(main[0], main[1], main[2], main[3]);
    s.query[i / kWarp][1][i % kWarp] = make_uint4(rest[0], rest[1], rest[2], rest[3]);
  }
}

template <int kDim>
__device__ const std::byte* RowAt(const FacParams& p, uint32_t problem, uint32_t i) {
  const size_t at = size_t{problem} * p.max_rows + i;
  if (p.rows != nullptr) return p.rows[at];
  const uint32_t index = p.indices != nullptr ? p.indices[at] : i;
  const size_t page = size_t{problem} * p.pages_per_problem + (index >> p.page_shift);
  return p.pages[page] + size_t{index & ((1U << p.page_shift) - 1)} * (4 * kDim);
}

// 16 bytes of row `row` of the lanes' 16, or zero past the row's part.
template <int kDim>
__device__ uint4 LoadUnit(const std::byte* lane_row, uint32_t row, uint32_t dim, bool value) {
  const auto address = reinterpret_cast<uint64_t>(lane_row);
  const auto base = __shfl_sync(kAllLanes, address, row);
  if (kDim % 64 != 0 && dim >= kDim) return make_uint4(0, 0, 0, 0);
  return *reinterpret_cast<const uint4*>(base + dim * 2 + (value ? kDim * 2 : 0));
}

__device__ inline float Clamped(float score) { return fminf(fmaxf(score, -FLT_MAX), FLT_MAX); }

// A warp's attention so far; lane 4 g + q has head g.
template <int kDim>
struct WarpState {
  static constexpr int kValueUnits = (kDim + 63) / 64;
  float most = -INFINITY;
  float total = 0;
  float sum[kValueUnits][8][4] = {};
};

// Scores of two times 8 rows: lane 4 g + q gets head g, rows 2 q and 2 q + 1 of each.
template <int kDim>
__device__ void ScoreRows(const FacShared<kDim>& s, const std::byte* row, float (&score)[2][2]) {
  constexpr int kUnits = FacShared<kDim>::kKeyUnits;
  uint4 key[2][kUnits];
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      key[n][u] = LoadUnit<kDim>(row, n * 8 + Lane() / 4, u * 32 + Lane() % 4 * 8, false);
    }
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    float c[4] = {};
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      const uint4 main = s.query[u][0][Lane()];
      const uint4 rest = s.query[u][1][Lane()];
      MultiplyAdd(c, {main.x, rest.x, main.y, rest.y}, key[n][u].x, key[n][u].y);
      MultiplyAdd(c, {main.z, rest.z, main.w, rest.w}, key[n][u].z, key[n][u].w);
    }
    score[n][0] = c[0] + c[2];
    score[n][1] = c[1] + c[3];
  }
}

// Adds the weighted values; weight[n][k] as the scores.
template <int kDim>
__device__ void AddValues(const std::byte* row, const float (&weight)[2][2],
                          WarpState<kDim>& state) {
  const uint32_t first = PackBf16(weight[0][0], weight[0][1]);
  const uint32_t second = PackBf16(weight[1][0], weight[1][1]);
  const uint32_t a[4] = {first, PackRest(weight[0][0], weight[0][1], first), second,
                         PackRest(weight[1][0], weight[1][1], second)};
#pragma unroll
  for (int u = 0; u < WarpState<kDim>::kValueUnits; ++u) {
    uint32_t value[4][4];
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const uint32_t of_row = r / 2 * 8 + Lane() % 4 * 2 + r % 2;
      const uint4 unit = LoadUnit<kDim>(row, of_row, u * 64 + Lane() / 4 * 8, true);
      value[r][0] = unit.x;
      value[r][1] = unit.y;
      value[r][2] = unit.z;
      value[r][3] = unit.w;
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint32_t pick = i % 2 == 0 ? 0x5410 : 0x7632;
      MultiplyAdd(state.sum[u][i], a, __byte_perm(value[0][i / 2], value[1][i / 2], pick),
                  __byte_perm(value[2][i / 2], value[3][i / 2], pick));
    }
  }
}

// 16 rows, of which `count` are there.
template <int kDim>
__device__ void AttendRows(const FacParams& p, const FacShared<kDim>& s, const std::byte* row,
                           uint32_t count, WarpState<kDim>& state) {
  float weight[2][2];
  ScoreRows(s, row, weight);
  float most = state.most;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float& score = weight[i / 2][i % 2];
    const uint32_t at = i / 2 * 8 + Lane() % 4 * 2 + i % 2;
    score = at < count ? Clamped(score * p.scale) : -INFINITY;
    most = fmaxf(most, score);
  }
  most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 1));
  most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 2));
  const float rescale = Exp2(state.most - most);
  float total = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    weight[i / 2][i % 2] = Exp2(weight[i / 2][i % 2] - most);
    total += weight[i / 2][i % 2];
  }
  state.most = most;
  state.total = state.total * rescale + total;
#pragma unroll
  for (int u = 0; u < WarpState<kDim>::kValueUnits; ++u) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int k = 0; k < 4; ++k) state.sum[u][i][k] *= rescale;
    }
  }
  AddValues(row, weight, state);
}

template <int kDim>
__device__ void KeepState(const WarpState<kDim>& state, FacShared<kDim>& s) {
  const uint32_t warp = WarpOfBlock();
  const uint32_t head = Lane() / 4;
  float total = state.total;
  total += __shfl_xor_sync(kAllLanes, total, 1);
  total += __shfl_xor_sync(kAllLanes, total, 2);
  if (Lane() % 4 == 0) {
    s.most[warp][head] = state.most;
    s.total[warp][head] = total;
  }
#pragma unroll
  for (int u = 0; u < WarpState<kDim>::kValueUnits; ++u) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint32_t dim = u * 64 + Lane() % 4 * 16 + i;
      if (dim < kDim) s.sum[warp][head][dim] = state.sum[u][i][0] + state.sum[u][i][2];
      if (dim + 8 < kDim) s.sum[warp][head][dim + 8] = state.sum[u][i][1] + state.sum[u][i][3];
    }
  }
}

// Puts the warps' states together in sum[0], block_most and block_total.
template <int kDim>
__device__ void CombineWarps(const FacParams& p, FacShared<kDim>& s) {
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < p.group * kDim; i += kThreads) {
    const uint32_t head = i / kDim;
    float most = s.most[0][head];
#pragma unroll
    for (uint32_t w = 1; w < kWarps; ++w) most = fmaxf(most, s.most[w][head]);
    float sum = 0;
    float total = 0;
    for (uint32_t w = 0; w < kWarps; ++w) {
      const float part = s.most[w][head] == -INFINITY ? 0 : Exp2(s.most[w][head] - most);
      sum = fmaf(part, s.sum[w][head][i % kDim], sum);
      total = fmaf(part, s.total[w][head], total);
    }
    s.sum[0][head][i % kDim] = sum;
    if (i % kDim == 0) {
      s.block_most[head] = most;
      s.block_total[head] = total;
    }
  }
}

// Puts the blocks' parts together; each block writes a share of the outputs.
template <int kDim>
__device__ void CombineBlocks(const FacParams& p, uint32_t problem, FacShared<kDim>& s) {
  const uint32_t blocks = ClusterBlocks();
  ClusterSync();
  if (threadIdx.x < p.group) {
    const uint32_t head = threadIdx.x;
    float most = -INFINITY;
    for (uint32_t r = 0; r < blocks; ++r) most = fmaxf(most, InBlock(s.block_most, r)[head]);
    float total = 0;
    for (uint32_t r = 0; r < blocks; ++r) {
      const float of_block = InBlock(s.block_most, r)[head];
      const float part = of_block == -INFINITY ? 0 : Exp2(of_block - most);
      s.share[r][head] = part;
      total = fmaf(part, InBlock(s.block_total, r)[head], total);
    }
    for (uint32_t r = 0; r < blocks; ++r) s.share[r][head] /= total > 0 ? total : 1.0F;
  }
  __syncthreads();
  for (uint32_t i = ClusterRank() * kThreads + threadIdx.x; i < p.group * kDim;
       i += blocks * kThreads) {
    const uint32_t head = i / kDim;
    float sum = 0;
    for (uint32_t r = 0; r < blocks; ++r) {
      sum = fmaf(s.share[r][head], *InBlock(&s.sum[0][head][i % kDim], r), sum);
    }
    const size_t at = size_t{problem} * p.group * kDim + i;
    if (p.out_bf16) {
      static_cast<uint16_t*>(p.out)[at] = static_cast<uint16_t>(NarrowBf16(sum));
    } else {
      static_cast<float*>(p.out)[at] = sum;
    }
  }
  ClusterSync();
}

template <int kDim>
__global__ void __launch_bounds__(kThreads, kDim > 128 ? 1 : 2)
    FacKernel(const __grid_constant__ FacParams p) {
  extern __shared__ uint4 dynamic_shared[];
  FacShared<kDim>& s = *reinterpret_cast<FacShared<kDim>*>(dynamic_shared);
  WaitForEarlier();
  LetLaterStart();
  const uint32_t problem = blockIdx.y;
  const uint32_t count = min(p.counts[problem], p.max_rows);
  PrepareQueries(p, problem, s);
  __syncthreads();
  WarpState<kDim> state;
  const uint32_t stride = ClusterBlocks() * kWarps * kTileRows;
  for (uint32_t begin = (ClusterRank() * kWarps + WarpOfBlock()) * kTileRows; begin < count;
       begin += stride) {
    const uint32_t rows = min(kTileRows, count - begin);
    const std::byte* row = RowAt<kDim>(p, problem, begin + min(Lane() % kTileRows, rows - 1));
    AttendRows(p, s, row, rows, state);
  }
  KeepState(state, s);
  CombineWarps(p, s);
  CombineBlocks(p, problem, s);
}

template <int kDim>
cudaError_t Launch(const FacParams& params, const FacPlan& plan, uint32_t problems,
                   cudaStream_t stream) {
  const auto kernel = FacKernel<kDim>;
  constexpr int kShared = static_cast<int>(sizeof(FacShared<kDim>));
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  if (error != cudaSuccess) return error;
  const ClusterLaunch launch(dim3(static_cast<uint32_t>(plan.blocks), problems), kThreads, kShared,
                             stream);
  return cudaLaunchKernelEx(&launch.config, kernel, params);
}

constexpr uint32_t kGatherThreads = 128;

// Half a warp a row: rows are a few hundred bytes.
__global__ void GatherKernel(GatherArgs args) {
  const uint32_t count = args.count != nullptr ? min(*args.count, args.max_rows) : args.max_rows;
  const uint32_t units = static_cast<uint32_t>(args.row_bytes / 16);
  const uint32_t at = (blockIdx.x * kGatherThreads + threadIdx.x) / 16;
  if (at >= count) return;
  const auto* from = reinterpret_cast<const uint4*>(args.rows[at]);
  auto* to = reinterpret_cast<uint4*>(args.out + at * args.row_bytes);
  for (uint32_t u = threadIdx.x % 16; u < units; u += 16) to[u] = __ldcv(from + u);
}

}  // namespace

cudaError_t LaunchFac(const FacArgs& args, const FacPlan& plan, cudaStream_t stream) {
  FacParams params = {};
  params.group = static_cast<uint32_t>(args.group);
  params.scale = args.scale * kLog2E;
  params.max_rows = args.max_rows;
  params.counts = args.counts;
  params.rows = args.rows;
  params.indices = args.indices;
  params.pages = args.pages;
  params.pages_per_problem = args.pages_per_problem;
  params.page_shift = args.page_shift;
  params.queries = args.queries;
  params.queries_bf16 = args.query_dtype == DType::kBf16;
  params.out = args.out;
  params.out_bf16 = args.out_dtype == DType::kBf16;
  const auto problems = static_cast<uint32_t>(args.problems);
  switch (args.shape.head_dim) {
    case 64:
      return Launch<64>(params, plan, problems, stream);
    case 80:
      return Launch<80>(params, plan, problems, stream);
    case 96:
      return Launch<96>(params, plan, problems, stream);
    case 128:
      return Launch<128>(params, plan, problems, stream);
    case 256:
      return Launch<256>(params, plan, problems, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

cudaError_t LaunchGather(const GatherArgs& args, cudaStream_t stream) {
  const uint32_t blocks = (args.max_rows * 16 + kGatherThreads - 1) / kGatherThreads;
  GatherKernel<<<blocks, kGatherThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace passband::kernels::cuda
