#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/tip_block.cuh"
#include "kernels/cuda/tip_tile.cuh"

namespace passband::kernels::cuda {
namespace {

constexpr uint32_t kMaxThreads = kMaxWarps * kWarp;
// Twice what rounding two scores to bf16 weights can turn around, and more.
constexpr float kRoughMargin = 0.99F;

// Calls `with(tile, products)` for each of the block's tiles, the warps in turn.
template <class Tiles, int kHeads>
__device__ typename Tiles::Raw FirstTile(const TipBlock<kHeads>& b) {
  typename Tiles::Raw raw;
  if (WarpOfBlock() < b.tiles) Tiles::Load(b.tile(WarpOfBlock()), raw);
  return raw;
}
template <class Tiles, int kHeads, class With>
__device__ void ForEachTile(const Tiles& tiles, const TipBlock<kHeads>& b,
                            typename Tiles::Raw raw, const With& with) {
  uint32_t tile = WarpOfBlock();
  while (tile < b.tiles) {
    const uint32_t next = tile + WarpsOfBlock();
    typename Tiles::Raw ahead;
    if (next < b.tiles) Tiles::Load(b.tile(next), ahead);
    LaneProducts<kHeads> products;
    tiles.Products(b.tile(tile), raw, products);
    with(tile, products);
    raw = ahead;
    tile = next;
  }
}

// Weighs a tile: keeps the weights and exponents in its record, adds to the sums.
template <int kHeads>
__device__ void WeighTile(const TipBlock<kHeads>& b, uint32_t tile, const float (&scale)[2],
                          LaneProducts<kHeads>& products, HeadSum (&sums)[2]) {
  using Lanes = LaneProducts<kHeads>;
  const uint32_t first = (b.first_tile + tile) * kTileTokens;
  const bool whole = first + kTileTokens <= b.tokens;
  if (!whole) {
#pragma unroll
    for (int i = 0; i < Lanes::kTokens; ++i) {
      if (first + Lanes::TileToken(i) >= b.tokens) products.of[i][0] = products.of[i][1] = -3e38F;
    }
  }
  float exponent[2];
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    float most = products.of[0][k];
#pragma unroll
    for (int i = 1; i < Lanes::kTokens; ++i) most = fmaxf(most, products.of[i][k]);
    most = Lanes::OverTokens(most, [](float a, float c) { return fmaxf(a, c); });
    exponent[k] = rintf(most * scale[k]);
  }
  const Record<kHeads> record = b.record(tile);
  float sum[2] = {0, 0};
#pragma unroll
  for (int i = 0; i < Lanes::kTokens; ++i) {
    float weight[2];
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const float log2 = fmaf(products.of[i][k], scale[k], -exponent[k]);
      weight[k] = Exp2(fmaxf(log2, kLeastWeight));
      if (!whole && products.of[i][k] <= -3e38F) weight[k] = 0;
      sum[k] += weight[k];
    }
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(weight[1]), "f"(weight[0]));
    const uint32_t at = Lanes::TileToken(i) * kHeads + Lanes::HeadOf();
    *reinterpret_cast<uint32_t*>(record.weights() + at) = pair;
  }
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    if (Lane() / 4 == 0) record.exponents()[Lanes::HeadOf() + k] = exponent[k];
    const float most = fmaxf(sums[k].exponent, exponent[k]);
    sums[k].sum = sums[k].sum * Exp2(sums[k].exponent - most) + sum[k] * Exp2(exponent[k] - most);
    sums[k].exponent = most;
  }
}

template <class Tiles, int kHeads>
__device__ void WeighAll(TipShared<kHeads>& s, const TipBlock<kHeads>& b, const Tiles& tiles,
                         const typename Tiles::Raw& first) {
  using Lanes = LaneProducts<kHeads>;
  HeadSum sums[2] = {{kNoExponent, 0}, {kNoExponent, 0}};
  const float scale[2] = {s.query.scale[Lanes::HeadOf()], s.query.scale[Lanes::HeadOf() + 1]};
  ForEachTile(tiles, b, first, [&](uint32_t tile, LaneProducts<kHeads>& products) {
    WeighTile(b, tile, scale, products, sums);
  });
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const float sum = Lanes::OverTokens(sums[k].sum, [](float a, float c) { return a + c; });
    if (Lane() < 4) s.of_warp[WarpOfBlock()][Lanes::HeadOf() + k] = {sums[k].exponent, sum};
  }
}

// Calls `with(tile, i, token, score)` for the four tokens of each lane of each tile; the
// score is below zero where the token cannot be chosen.
template <int kHeads, class Score, class With>
__device__ void ForEachToken(const TipBlock<kHeads>& b, const Eligible& eligible,
                             const Score& score_of, const With& with) {
  for (uint32_t tile = WarpOfBlock(); tile < b.tiles; tile += WarpsOfBlock()) {
    const Record<kHeads> record = b.record(tile);
    const bool all = eligible.All(b.first_tile + tile);
    float factor[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; h += 4) {
      const float4 four = *reinterpret_cast<const float4*>(record.factors() + h);
      factor[h] = four.x;
      factor[h + 1] = four.y;
      factor[h + 2] = four.z;
      factor[h + 3] = four.w;
    }
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t at = i * kWarp + Lane();
      const uint32_t token = (b.first_tile + tile) * kTileTokens + at;
      float score = score_of(record, at, factor);
      if (!all && !eligible.Has(token)) score = -1.0F;
      with(record, i, token, score);
    }
  }
}

struct RoughScore {
  template <int kHeads>
  __device__ float operator()(const Record<kHeads>& record, uint32_t token,
                              const float (&factor)[kHeads]) const {
    return record.RoughScore(token, factor);
  }
};
struct KeptScore {
  template <int kHeads>
  __device__ float operator()(const Record<kHeads>& record, uint32_t token,
                              const float (&)[kHeads]) const {
    return record.score(token);
  }
};

// Marks in the records the tokens that `chosen` wants.
template <int kHeads, class Score, class Chosen>
__device__ void Mark(const TipBlock<kHeads>& b, const Eligible& eligible, const Score& score_of,
                     const Chosen& chosen) {
  ForEachToken(b, eligible, score_of,
               [&](const Record<kHeads>& record, uint32_t i, uint32_t token, float score) {
                 const uint32_t bits = __ballot_sync(kAllLanes, chosen(token, score));
                 if (Lane() == i) record.bits()[i] = bits;
               });
  __syncthreads();
}

// The exact scores of the candidates, from the slices.
template <class Tiles, int kHeads>
__device__ void ScoreCandidates(const TipShared<kHeads>& s, const TipBlock<kHeads>& b,
                                const Tiles& tiles, uint32_t count) {
  for (uint32_t begin = 0; begin < count; begin += blockDim.x / 4) {
    const uint32_t i = begin + threadIdx.x / 4;
    const uint32_t token = b.candidate[min(i, count - 1)];
    const uint32_t tile = token / kTileTokens - b.first_tile;
    float products[kHeads];
    tiles.TokenProducts(b.tile(tile), token % kTileTokens, products);
    const Record<kHeads> record = b.record(tile);
    float score = 0;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const float weight = ExactWeight(products[h], s.query.scale[h], record.exponents()[h]);
      score = fmaf(weight, record.factors()[h], score);
    }
    if (i < count && threadIdx.x % 4 == 0) b.candidate_score[i] = score;
  }
}

// All exact scores, to the records or (when not null) to `scores`.
template <class Tiles, int kHeads>
__device__ void ScoreAll(const TipShared<kHeads>& s, const TipBlock<kHeads>& b, const Tiles& tiles,
                         float* scores) {
  using Lanes = LaneProducts<kHeads>;
  const float scale[2] = {s.query.scale[Lanes::HeadOf()], s.query.scale[Lanes::HeadOf() + 1]};
  const auto first = FirstTile<Tiles>(b);
  ForEachTile(tiles, b, first, [&](uint32_t tile, const LaneProducts<kHeads>& products) {
    const Record<kHeads> record = b.record(tile);
    const float* exponents = record.exponents() + Lanes::HeadOf();
    const float* factors = record.factors() + Lanes::HeadOf();
#pragma unroll
    for (int i = 0; i < Lanes::kTokens; ++i) {
      float score = 0;
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const float weight = ExactWeight(products.of[i][k], scale[k], exponents[k]);
        score = fmaf(weight, factors[k], score);
      }
      score = Lanes::OverHeads(score);
      const uint32_t token = (b.first_tile + tile) * kTileTokens + Lanes::TileToken(i);
      if (Lanes::HeadOf() != 0 || token >= b.tokens) continue;
      if (scores != nullptr) {
        scores[token] = score;
      } else {
        record.score(Lanes::TileToken(i)) = score;
      }
    }
  });
  __syncthreads();
}

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
  const uint32_t last =
      LargestReached(LeastKey(bin), bin + 1 < kBins ? LeastKey(bin + 1) : kKeysEnd, wanted, wanted,
                     count);
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
    ForEachToken(b, eligible, KeptScore(),
                 [&](const Record<kHeads>&, uint32_t, uint32_t token, float score) {
                   reached += score >= 0 && chosen(token, KeyOf(score)) ? 1 : 0;
                 });
    return ClusterSum(s, b, reached);
  };
  const uint32_t last =
      LargestReached(1, kKeysEnd, wanted, wanted, [&](uint32_t floor) {
        return count([=](uint32_t, uint32_t key) { return key >= floor; });
      });
  // Of the tokens that equal the last, those from `oldest` on.
  const auto chosen_from = [=](uint32_t oldest) {
    return [=](uint32_t token, uint32_t key) {
      return key > last || (key == last && token >= oldest);
    };
  };
  const uint32_t oldest = LargestReached(
      0, b.tokens, wanted, wanted, [&](uint32_t from) { return count(chosen_from(from)); });
  const auto chosen = chosen_from(oldest);
  Mark(b, eligible, KeptScore(), [&](uint32_t token, float score) {
    return score >= 0 && chosen(token, KeyOf(score));
  });
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
  ForEachToken(b, eligible, RoughScore(),
               [&](const Record<kHeads>&, uint32_t i, uint32_t, float score) {
                 best[i] = fmaxf(best[i], score);
               });
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
  Mark(b, eligible, RoughScore(), [=](uint32_t, float score) { return score >= floor; });
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
  ClusterArrive();
  const uint32_t all_tiles = (tokens + kTileTokens - 1) / kTileTokens;
  const uint32_t share = (all_tiles + b.blocks - 1) / b.blocks;
  b.first_tile = min(b.rank * share, all_tiles);
  b.tiles = min(share, all_tiles - b.first_tile);
  b.slices = p.tiles[problem];
  b.tile_bytes = p.shape.tile_bytes();
  b.held = reinterpret_cast<std::byte*>(dynamic_shared);
  b.held_tiles = p.held_tiles;
  b.spilled = p.spill + (size_t{problem} * b.blocks + b.rank) * p.spilled_tiles *
                            RecordBytes(kHeads);
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
  const Tiles tiles(p.shape, s.query);
  WeighAll(s, b, tiles, first);
  AgreeOnSums(s, b, p.group);
  if (p.scores != nullptr) ScoreAll(s, b, tiles, p.scores + size_t{problem} * p.max_tokens);
  if (tokens > p.select.budget) SelectBest(p, s, b, tiles, selected);
}

template <SliceEncoding kEncoding, int kHeads, int kSteps>
cudaError_t Launch(const TipParams& params, const TipSelectPlan& plan, uint32_t problems,
                   cudaStream_t stream) {
  const auto kernel = TipSelectKernel<kEncoding, kHeads, kSteps>;
  cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(plan.shared_bytes));
  if (error != cudaSuccess) return error;
  if (plan.blocks > 8) {
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    if (error != cudaSuccess) return error;
  }
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {static_cast<uint32_t>(plan.blocks), 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<uint32_t>(plan.blocks), problems);
  config.blockDim = dim3(static_cast<uint32_t>(plan.threads));
  config.dynamicSmemBytes = plan.shared_bytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = plan.blocks > 1 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, params);
}

template <SliceEncoding kEncoding>
cudaError_t LaunchAny(const TipParams& params, const TipSelectPlan& plan, uint32_t problems,
                      cudaStream_t stream) {
  if (params.group > 4) return Launch<kEncoding, 8, 0>(params, plan, problems, stream);
  return Launch<kEncoding, 4, 0>(params, plan, problems, stream);
}

// 16, 24 and 32 chunks have their own.
template <SliceEncoding kEncoding>
cudaError_t LaunchSteps(const TipParams& params, const TipSelectPlan& plan, uint32_t problems,
                        cudaStream_t stream) {
  const bool small = params.group <= 4;
  switch (params.shape.steps()) {
    case 2:
      if (small) return Launch<kEncoding, 4, 2>(params, plan, problems, stream);
      break;
    case 3:
      if (small) return Launch<kEncoding, 4, 3>(params, plan, problems, stream);
      return Launch<kEncoding, 8, 3>(params, plan, problems, stream);
    case 4:
      if (small) return Launch<kEncoding, 4, 4>(params, plan, problems, stream);
      break;
    default:
      break;
  }
  return LaunchAny<kEncoding>(params, plan, problems, stream);
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

cudaError_t LaunchTipSelect(const TipSelectArgs& args, const TipSelectPlan& plan,
                            cudaStream_t stream) {
  const TipParams params = ParamsOf(args, plan);
  const auto problems = static_cast<uint32_t>(args.sequences) * params.kv_heads;
  switch (params.shape.encoding) {
    case SliceEncoding::kInt2:
      return LaunchSteps<SliceEncoding::kInt2>(params, plan, problems, stream);
    case SliceEncoding::kInt4:
      return LaunchSteps<SliceEncoding::kInt4>(params, plan, problems, stream);
    case SliceEncoding::kInt8:
      return LaunchAny<SliceEncoding::kInt8>(params, plan, problems, stream);
    case SliceEncoding::kFp8:
      return LaunchAny<SliceEncoding::kFp8>(params, plan, problems, stream);
    case SliceEncoding::kBf16:
      return LaunchAny<SliceEncoding::kBf16>(params, plan, problems, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace passband::kernels::cuda
