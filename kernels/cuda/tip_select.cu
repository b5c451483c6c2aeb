#include <cuda_runtime.h>

#include "kernels/cuda/cluster_launch.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tip_block.cuh"
#include "kernels/cuda/tip_score.cuh"

namespace passband::kernels::cuda {
namespace {

constexpr uint32_t kMaxThreads = kMaxWarps * kWarp;
// More than rough scores can turn two tokens around: rounding to bf16 is 2^-9 each way,
// and the bits below a pair's upper weight add 2^-8.
constexpr float kRoughMargin = 0.985F;

// The candidates of all blocks, in order, with their keys: in the first block.
template <int kHeads>
struct Merged {
  uint32_t* token;
  uint32_t* key;
  uint32_t count;
};
template <int kHeads>
__device__ Merged<kHeads> MergeCandidates(TipShared<kHeads>& s, TipBlock<kHeads>& b,
                                          uint32_t capacity, uint32_t count) {
  const Merged<kHeads> merged = {b.maxima, b.maxima + capacity, count};
  for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
    uint32_t rank = 0;
    uint32_t at = i;
    while (at >= s.votes[b.vote][rank]) at -= s.votes[b.vote][rank++];
    merged.token[i] = *InBlock(b.candidate + at, rank);
    merged.key[i] = KeyOf(*InBlock(b.candidate_score + at, rank));
  }
  return merged;
}

// Writes the `wanted` best of the merged candidates, in order.
template <int kHeads>
__device__ void WriteBest(TipShared<kHeads>& s, TipBlock<kHeads>& b, const Merged<kHeads>& merged,
                          uint32_t wanted, uint32_t* to) {
  const auto count = [&](uint32_t floor) {
    return CountKeys(s, b, merged.key, merged.count, floor);
  };
  const uint32_t bin = FindBin(s, b, merged.key, merged.count, wanted);
  const uint32_t last = LargestReached(
      LeastKey(bin), bin + 1 < kBins ? LeastKey(bin + 1) : kKeysEnd, wanted, wanted, count);
  // More than wanted only when several equal the last: the oldest are left out.
  uint32_t surplus = count(last) - wanted;
  uint32_t written = 0;
  for (uint32_t begin = 0; begin < merged.count; begin += blockDim.x) {
    const uint32_t i = begin + threadIdx.x;
    const uint32_t key = i < merged.count ? merged.key[i] : 0;
    bool chosen = i < merged.count && key >= last;
    if (surplus > 0) {
      const Scan ties = BlockScan(s.sums, b.turn, chosen && key == last ? 1 : 0);
      if (key == last && ties.before < surplus) chosen = false;
      surplus -= min(surplus, ties.total);
    }
    const Scan scan = BlockScan(s.sums, b.turn, chosen ? 1 : 0);
    if (chosen) to[written + scan.before] = merged.token[i];
    written += scan.total;
  }
}

// Exactly, whatever the scores: counts all tokens of the cluster for each step of a
// bisection. For when so many tokens are equal, or nearly, that the candidates overflow.
template <class Tiles, int kHeads>
__device__ void SelectSlowly(TipShared<kHeads>& s, TipBlock<kHeads>& b, const Tiles& tiles,
                             const Eligible& eligible, uint32_t wanted, uint32_t* to) {
  ScoreAll(s, b, tiles, nullptr);
  const auto count = [&](auto chosen) {
    uint32_t reached = 0;
    ForEachToken(s, b, eligible, KeptScore(),
                 [&](const Record<kHeads>&, uint32_t, uint32_t token, float score) {
                   reached += score >= 0 && chosen(token, KeyOf(score)) ? 1 : 0;
                 });
    return ClusterSum(s, b, reached);
  };
  const uint32_t last = LargestReached(1, kKeysEnd, wanted, wanted, [&](uint32_t floor) {
    return count([=](uint32_t, uint32_t key) { return key >= floor; });
  });
  // Of the tokens that equal the last, those from `oldest` on.
  const auto chosen_from = [=](uint32_t oldest) {
    return [=](uint32_t token, uint32_t key) {
      return key > last || (key == last && token >= oldest);
    };
  };
  const uint32_t oldest = LargestReached(0, b.tokens, wanted, wanted,
                                         [&](uint32_t from) { return count(chosen_from(from)); });
  const auto chosen = chosen_from(oldest);
  Mark(s, b, eligible, KeptScore(),
       [&](uint32_t token, float score) { return score >= 0 && chosen(token, KeyOf(score)); });
  const uint32_t mine = ListMarked(s, b, [](uint32_t, uint32_t) {});
  ClusterSum(s, b, threadIdx.x == 0 ? mine : 0);
  uint32_t begin = 0;
  for (uint32_t r = 0; r < b.rank; ++r) begin += s.votes[b.vote ^ 1][r];
  ListMarked(s, b, [&](uint32_t at, uint32_t token) { to[begin + at] = token; });
}

// Sinks, the chosen, recent.
template <class Tiles, int kHeads>
__device__ void SelectBest(const TipParams& p, TipShared<kHeads>& s, TipBlock<kHeads>& b,
                           const Tiles& tiles, uint32_t* selected) {
  const SelectOptions& select = p.select;
  const uint32_t wanted = select.budget - select.sinks - select.recent;
  const Eligible eligible(b.tokens, select);
  if (b.rank == 0) {
    for (uint32_t i = threadIdx.x; i < select.sinks; i += blockDim.x) selected[i] = i;
    for (uint32_t i = threadIdx.x; i < select.recent; i += blockDim.x) {
      selected[select.sinks + wanted + i] = eligible.end + i;
    }
  }
  if (wanted == 0) return;
  float best[4] = {-1.0F, -1.0F, -1.0F, -1.0F};
  FindMaxima(s, b, eligible, best);
  ShareMaxima(b, best, p.groups);
  // At least as many tokens as are wanted reach the floor, so no chosen one is below it.
  const uint32_t bin = FindBin(s, b, b.maxima, p.groups, wanted);
  uint32_t floor_key = LeastKey(bin);
  if (bin == 0) {
    floor_key = LargestReached(1, LeastKey(1), wanted, wanted + wanted / 8, [&](uint32_t floor) {
      return CountKeys(s, b, b.maxima, p.groups, floor);
    });
  }
  const float floor = __uint_as_float(floor_key - 1) * kRoughMargin;
  MarkAbove(s, b, eligible, floor);
  const uint32_t listed = ListMarked(s, b, [&](uint32_t at, uint32_t token) {
    if (at < p.candidates) b.candidate[at] = token;
  });
  __syncthreads();
  if (listed <= p.candidates) ScoreCandidates(s, b, tiles, listed);
  const uint32_t total = ClusterSum(s, b, threadIdx.x == 0 ? listed : 0);
  b.vote ^= 1;  // the votes stay until they are merged
  if (total > p.candidates) {
    b.vote ^= 1;
    SelectSlowly(s, b, tiles, eligible, wanted, selected + select.sinks);
  } else if (b.rank == 0) {
    const Merged<kHeads> merged = MergeCandidates(s, b, p.candidates, total);
    ClusterArrive();  // the others may end
    __syncthreads();
    WriteBest(s, b, merged, wanted, selected + select.sinks);
    ClusterWait();
    return;
  }
  ClusterSync();
}

template <SliceEncoding kEncoding, int kHeads, int kSteps>
__global__ void __launch_bounds__(kMaxThreads, 1)
    TipSelectKernel(const __grid_constant__ TipParams p) {
  extern __shared__ uint4 dynamic_shared[];
  __shared__ TipShared<kHeads> s;
  WaitForEarlier();
  LetLaterStart();
  const uint32_t problem = blockIdx.y;
  const uint32_t sequence = problem / p.kv_heads;
  const uint32_t tokens = min(p.tokens[sequence], p.max_tokens);
  uint32_t* selected = p.selected + size_t{problem} * p.select.budget;
  TipBlock<kHeads> b = {};
  b.rank = ClusterRank();
  b.blocks = ClusterBlocks();
  b.tokens = tokens;
  if (b.rank == 0 && threadIdx.x == 0) p.counts[problem] = min(tokens, p.select.budget);
  if (tokens <= p.select.budget) {
    for (uint32_t i = b.rank * blockDim.x + threadIdx.x; i < tokens; i += b.blocks * blockDim.x) {
      selected[i] = i;
    }
    if (p.scores == nullptr || tokens == 0) return;
  }
  ClusterBegin();
  const uint32_t all_tiles = (tokens + kTileTokens - 1) / kTileTokens;
  const uint32_t share = (all_tiles + b.blocks - 1) / b.blocks;
  b.first_tile = min(b.rank * share, all_tiles);
  b.tiles = min(share, all_tiles - b.first_tile);
  b.slices = p.tiles[problem];
  b.tile_bytes = p.shape.tile_bytes();
  b.held = reinterpret_cast<std::byte*>(dynamic_shared);
  b.held_tiles = p.held_tiles;
  b.spilled =
      p.spill + (size_t{problem} * b.blocks + b.rank) * p.spilled_tiles * RecordBytes(kHeads);
  b.candidate = reinterpret_cast<uint32_t*>(b.held + p.held_tiles * RecordBytes(kHeads));
  b.candidate_score = reinterpret_cast<float*>(b.candidate + p.candidates);
  b.maxima = b.candidate + 2 * p.candidates;

  const size_t element = p.queries_bf16 ? 2 : 4;
  const size_t first_query = size_t{problem} * p.group * p.shape.head.head_dim;
  const QuerySource source = {static_cast<const std::byte*>(p.queries) + first_query * element,
                              p.queries_bf16, p.scale};
  using Tiles = typename TilesOf<kEncoding, kHeads, kSteps>::Type;
  const typename Tiles::Raw first = FirstTile<Tiles>(b);
  PrepareQuery(p.shape, p.recipes[problem % p.kv_heads], source, p.group, s.query);
  __syncthreads();
  b.narrow = s.query.AllNarrow();
  const Tiles tiles(p.shape, s.query);
  WeighAll(s, b, tiles, first);
  AgreeOnSums(s, b, p.group);
  if (p.scores != nullptr) ScoreAll(s, b, tiles, p.scores + size_t{problem} * p.max_tokens);
  if (tokens > p.select.budget) SelectBest(p, s, b, tiles, selected);
}

// Launches, or, with `active`, finds out how many problems would run at a time.
template <SliceEncoding kEncoding, int kHeads, int kSteps>
cudaError_t Launch(const TipParams& params, const TipSelectPlan& plan, uint32_t problems,
                   int* active, cudaStream_t stream) {
  const auto kernel = TipSelectKernel<kEncoding, kHeads, kSteps>;
  cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(plan.shared_bytes));
  if (error != cudaSuccess) return error;
  if (plan.blocks > 8) {
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    if (error != cudaSuccess) return error;
  }
  ClusterLaunch launch(dim3(static_cast<uint32_t>(plan.blocks), problems),
                       static_cast<uint32_t>(plan.threads), plan.shared_bytes, stream);
  if (active != nullptr) return cudaOccupancyMaxActiveClusters(active, kernel, &launch.config);
  return cudaLaunchKernelEx(&launch.config, kernel, params);
}

template <SliceEncoding kEncoding>
cudaError_t LaunchAny(const TipParams& params, const TipSelectPlan& plan, uint32_t problems,
                      int* active, cudaStream_t stream) {
  if (params.group > 4) return Launch<kEncoding, 8, 0>(params, plan, problems, active, stream);
  return Launch<kEncoding, 4, 0>(params, plan, problems, active, stream);
}

// 16, 24 and 32 chunks have their own.
template <SliceEncoding kEncoding>
cudaError_t LaunchSteps(const TipParams& params, const TipSelectPlan& plan, uint32_t problems,
                        int* active, cudaStream_t stream) {
  const bool small = params.group <= 4;
  switch (params.shape.steps()) {
    case 2:
      if (small) return Launch<kEncoding, 4, 2>(params, plan, problems, active, stream);
      break;
    case 3:
      if (small) return Launch<kEncoding, 4, 3>(params, plan, problems, active, stream);
      return Launch<kEncoding, 8, 3>(params, plan, problems, active, stream);
    case 4:
      if (small) return Launch<kEncoding, 4, 4>(params, plan, problems, active, stream);
      break;
    default:
      break;
  }
  return LaunchAny<kEncoding>(params, plan, problems, active, stream);
}

TipParams ParamsOf(const TipSelectArgs& args, const TipSelectPlan& plan) {
  TipParams params = {};
  params.shape = args.recipes->shape();
  params.recipes = args.recipes->device();
  params.kv_heads = static_cast<uint32_t>(args.recipes->kv_heads());
  params.group = static_cast<uint32_t>(args.group);
  params.scale = args.scale;
  params.select = args.select;
  params.max_tokens = args.max_tokens;
  params.tiles = args.tiles;
  params.tokens = args.tokens;
  params.queries = args.queries;
  params.queries_bf16 = args.query_dtype == DType::kBf16;
  params.selected = args.selected;
  params.counts = args.counts;
  params.scores = args.scores;
  params.spill = args.workspace;
  params.held_tiles = plan.held_tiles;
  params.spilled_tiles = plan.spilled_tiles;
  params.groups = plan.groups;
  params.candidates = plan.candidates;
  return params;
}

}  // namespace

cudaError_t LaunchTipSelect(const TipSelectArgs& args, const TipSelectPlan& plan, int* active,
                            cudaStream_t stream) {
  const TipParams params = ParamsOf(args, plan);
  const auto problems = static_cast<uint32_t>(args.sequences) * params.kv_heads;
  switch (params.shape.encoding) {
    case SliceEncoding::kInt2:
      return LaunchSteps<SliceEncoding::kInt2>(params, plan, problems, active, stream);
    case SliceEncoding::kInt4:
      return LaunchSteps<SliceEncoding::kInt4>(params, plan, problems, active, stream);
    case SliceEncoding::kInt8:
      return LaunchAny<SliceEncoding::kInt8>(params, plan, problems, active, stream);
    case SliceEncoding::kFp8:
      return LaunchAny<SliceEncoding::kFp8>(params, plan, problems, active, stream);
    case SliceEncoding::kBf16:
      return LaunchAny<SliceEncoding::kBf16>(params, plan, problems, active, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace passband::kernels::cuda
