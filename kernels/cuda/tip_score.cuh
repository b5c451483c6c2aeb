// Scoring the tiles of a block: weights first, exact scores where they are needed.
//
// Weights are powers of two of the logits, less an exponent of their tile and head, or
// less none when the query is narrow: then no largest logit need be looked for.
//
// Contract  called by all threads of a block together.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/tip_block.cuh"
#include "kernels/cuda/tip_tile.cuh"

namespace passband::kernels::cuda {

// The first tile of each warp, to be loaded ahead of everything else.
template <class Tiles, int kHeads>
__device__ typename Tiles::Raw FirstTile(const TipBlock<kHeads>& b) {
  typename Tiles::Raw raw;
  if (WarpOfBlock() < b.tiles) Tiles::Load(b.tile(WarpOfBlock()), raw);
  return raw;
}

// Calls `with(tile, raw)` for each of the block's tiles, the warps in turn.
template <class Tiles, int kHeads, class With>
__device__ void ForEachTile(const TipBlock<kHeads>& b, typename Tiles::Raw raw, const With& with) {
  for (uint32_t tile = WarpOfBlock(); tile < b.tiles; tile += WarpsOfBlock()) {
    const uint32_t next = tile + WarpsOfBlock();
    typename Tiles::Raw ahead;
    if (next < b.tiles) Tiles::Load(b.tile(next), ahead);
    with(tile, raw);
    raw = ahead;
  }
}

// Keeps two heads' weights of a lane's token; `at` is the lane's place in the record.
template <int kHeads>
__device__ void KeepWeights(std::byte* at, int i, float first, float second) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  const int token = kHeads == 4 ? i / 2 * 32 + i % 2 * 16 : static_cast<int>(TokenOf(i, 0));
  *reinterpret_cast<uint32_t*>(at + token * kHeads * 2) = pair;
}
template <int kHeads>
__device__ uint32_t LanePlace() {
  using Lanes = LaneProducts<kHeads>;
  return (Lanes::TileToken(0) * kHeads + Lanes::HeadOf()) * 2;
}

// A narrow query's: a sum to a weight is one fused operation and a power.
template <class Tiles, int kHeads>
struct NarrowWeigher {
  using Lanes = LaneProducts<kHeads>;
  static constexpr int kPeriod = Tiles::kUnitPeriod;
  float scale[kPeriod][2];
  float start[kPeriod][2];

  __device__ explicit NarrowWeigher(const float (&of_product)[2]) {
#pragma unroll
    for (int i = 0; i < kPeriod; ++i) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        scale[i][k] = of_product[k] * Tiles::Unit(i);
        start[i][k] = -Tiles::Start() * scale[i][k];
      }
    }
  }

  // `missing`: of the tile's tokens, those from it on are not there.
  template <bool kWhole>
  __device__ void Weigh(std::byte* at, uint32_t missing, const Lanes& sums,
                        float (&total)[2]) const {
#pragma unroll
    for (int i = 0; i < Lanes::kTokens; ++i) {
      float weight[2];
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const int unit = i % kPeriod;
        weight[k] = Exp2(fmaf(sums.of[i][k], scale[unit][k], start[unit][k]));
        if (!kWhole && Lanes::TileToken(i) >= missing) weight[k] = 0;
        total[k] += weight[k];
      }
      KeepWeights<kHeads>(at, i, weight[0], weight[1]);
    }
  }
};

// Any query's: returns in `exponent` what was taken off.
template <int kHeads>
__device__ void WeighWide(std::byte* at, uint32_t missing, const float (&scale)[2],
                          LaneProducts<kHeads>& products, float (&exponent)[2], float (&total)[2]) {
  using Lanes = LaneProducts<kHeads>;
  constexpr float kMissing = -3e38F;
#pragma unroll
  for (int i = 0; i < Lanes::kTokens; ++i) {
    if (Lanes::TileToken(i) >= missing) products.of[i][0] = products.of[i][1] = kMissing;
  }
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    float most = products.of[0][k];
#pragma unroll
    for (int i = 1; i < Lanes::kTokens; ++i) most = fmaxf(most, products.of[i][k]);
    most = Lanes::OverTokens(most, [](float a, float c) { return fmaxf(a, c); });
    exponent[k] = rintf(most * scale[k]);
    total[k] = 0;
  }
#pragma unroll
  for (int i = 0; i < Lanes::kTokens; ++i) {
    float weight[2];
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const float log2 = fmaf(products.of[i][k], scale[k], -exponent[k]);
      weight[k] = products.of[i][k] > kMissing ? Exp2(fmaxf(log2, kLeastWeight)) : 0;
      total[k] += weight[k];
    }
    KeepWeights<kHeads>(at, i, weight[0], weight[1]);
  }
}

template <class Tiles, int kHeads>
__device__ void WeighNarrow(const TipBlock<kHeads>& b, const Tiles& tiles,
                            const typename Tiles::Raw& first, const float (&scale)[2],
                            HeadSum (&sums)[2]) {
  const NarrowWeigher<Tiles, kHeads> weigher(scale);
  const uint32_t place = LanePlace<kHeads>();
  float total[2] = {0, 0};
  ForEachTile<Tiles>(b, first, [&](uint32_t tile, const typename Tiles::Raw& raw) {
    LaneProducts<kHeads> products;
    tiles.Sums(b.tile(tile), raw, products);
    std::byte* at = b.record(tile).at + place;
    const uint32_t missing = b.tokens - (b.first_tile + tile) * kTileTokens;
    if (missing >= kTileTokens) {
      weigher.template Weigh<true>(at, missing, products, total);
    } else {
      weigher.template Weigh<false>(at, missing, products, total);
    }
  });
  sums[0] = {0, total[0]};
  sums[1] = {0, total[1]};
}

template <class Tiles, int kHeads>
__device__ void WeighWide(const TipBlock<kHeads>& b, const Tiles& tiles,
                          const typename Tiles::Raw& first, const float (&scale)[2],
                          HeadSum (&sums)[2]) {
  using Lanes = LaneProducts<kHeads>;
  const uint32_t place = LanePlace<kHeads>();
  sums[0] = sums[1] = {kNoExponent, 0};
  ForEachTile<Tiles>(b, first, [&](uint32_t tile, const typename Tiles::Raw& raw) {
    LaneProducts<kHeads> products;
    tiles.Products(b.tile(tile), raw, products);
    const Record<kHeads> record = b.record(tile);
    const uint32_t missing = b.tokens - (b.first_tile + tile) * kTileTokens;
    float exponent[2];
    float total[2];
    WeighWide<kHeads>(record.at + place, missing, scale, products, exponent, total);
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      if (Lane() / 4 == 0) record.exponents()[Lanes::HeadOf() + k] = exponent[k];
      HeadSum& sum = sums[k];
      const float most = fmaxf(sum.exponent, exponent[k]);
      sum.sum = sum.sum * Exp2(sum.exponent - most) + total[k] * Exp2(exponent[k] - most);
      sum.exponent = most;
    }
  });
}

// Weighs all tiles; the warps' sums are in s.of_warp.
template <class Tiles, int kHeads>
__device__ void WeighAll(TipShared<kHeads>& s, const TipBlock<kHeads>& b, const Tiles& tiles,
                         const typename Tiles::Raw& first) {
  using Lanes = LaneProducts<kHeads>;
  const float scale[2] = {s.query.scale[Lanes::HeadOf()], s.query.scale[Lanes::HeadOf() + 1]};
  HeadSum sums[2];
  if (b.narrow) {
    WeighNarrow(b, tiles, first, scale, sums);
  } else {
    WeighWide(b, tiles, first, scale, sums);
  }
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const float sum = Lanes::OverTokens(sums[k].sum, [](float a, float c) { return a + c; });
    if (Lane() < 4) s.of_warp[WarpOfBlock()][Lanes::HeadOf() + k] = {sums[k].exponent, sum};
  }
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
    float score = 0;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const float weight = ExactWeight(products[h], s.query.scale[h], b.ExponentOf(tile, h));
      score = fmaf(weight, b.FactorOf(s, tile, h), score);
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
  ForEachTile<Tiles>(b, first, [&](uint32_t tile, const typename Tiles::Raw& raw) {
    LaneProducts<kHeads> products;
    tiles.Products(b.tile(tile), raw, products);
#pragma unroll
    for (int i = 0; i < Lanes::kTokens; ++i) {
      float score = 0;
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const uint32_t h = Lanes::HeadOf() + k;
        const float weight = ExactWeight(products.of[i][k], scale[k], b.ExponentOf(tile, h));
        score = fmaf(weight, b.FactorOf(s, tile, h), score);
      }
      score = Lanes::OverHeads(score);
      const uint32_t token = (b.first_tile + tile) * kTileTokens + Lanes::TileToken(i);
      if (Lanes::HeadOf() != 0 || token >= b.tokens) continue;
      if (scores != nullptr) {
        scores[token] = score;
      } else {
        b.record(tile).score(Lanes::TileToken(i)) = score;
      }
    }
  });
  __syncthreads();
}

// Calls `with(record, i, token, score)` for the four tokens of each lane of each tile;
// the score is below zero where the token cannot be chosen.
template <int kHeads, class Score, class With>
__device__ void ForEachToken(const TipShared<kHeads>& s, const TipBlock<kHeads>& b,
                             const Eligible& eligible, const Score& score_of, const With& with) {
  float factor[kHeads];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) factor[h] = s.share[h];
#pragma unroll 2
  for (uint32_t tile = WarpOfBlock(); tile < b.tiles; tile += WarpsOfBlock()) {
    const Record<kHeads> record = b.record(tile);
    if (!b.narrow) {
#pragma unroll
      for (int h = 0; h < kHeads; ++h) factor[h] = record.factors()[h];
    }
    float score[4];
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) score[i] = score_of(record, i * kWarp + Lane(), factor);
    const uint32_t first = (b.first_tile + tile) * kTileTokens + Lane();
    if (!eligible.All(b.first_tile + tile)) {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        if (!eligible.Has(first + i * kWarp)) score[i] = -1.0F;
      }
    }
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) with(record, i, first + i * kWarp, score[i]);
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
__device__ void Mark(const TipShared<kHeads>& s, const TipBlock<kHeads>& b,
                     const Eligible& eligible, const Score& score_of, const Chosen& chosen) {
  ForEachToken(s, b, eligible, score_of,
               [&](const Record<kHeads>& record, uint32_t i, uint32_t token, float score) {
                 const uint32_t bits = __ballot_sync(kAllLanes, chosen(token, score));
                 if (Lane() == i) record.bits()[i] = bits;
               });
  __syncthreads();
}

// The rough maxima of each lane's four places over its tiles; the key of each tile's
// largest score stands in for its bits.
template <int kHeads>
__device__ void FindMaxima(const TipShared<kHeads>& s, const TipBlock<kHeads>& b,
                           const Eligible& eligible, float (&best)[4]) {
  float of_tile = -1.0F;
  ForEachToken(s, b, eligible, RoughScore(),
               [&](const Record<kHeads>& record, uint32_t i, uint32_t, float score) {
                 best[i] = fmaxf(best[i], score);
                 of_tile = i == 0 ? score : fmaxf(of_tile, score);
                 if (i < 3) return;
                 const uint32_t key = __reduce_max_sync(kAllLanes, KeyOf(of_tile));
                 if (Lane() == 0) record.bits()[0] = key;
               });
  __syncwarp();
}

// Marks the tokens whose rough scores reach `floor`, after FindMaxima; most tiles have
// none.
template <int kHeads>
__device__ void MarkAbove(const TipShared<kHeads>& s, const TipBlock<kHeads>& b,
                          const Eligible& eligible, float floor) {
  float factor[kHeads];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) factor[h] = s.share[h];
  for (uint32_t begin = WarpOfBlock(); begin < b.tiles; begin += kWarp * WarpsOfBlock()) {
    const uint32_t mine = begin + Lane() * WarpsOfBlock();
    const bool some = mine < b.tiles && b.record(mine).bits()[0] >= KeyOf(floor);
    if (mine < b.tiles && !some) {
      *reinterpret_cast<uint4*>(b.record(mine).bits()) = make_uint4(0, 0, 0, 0);
    }
    for (uint32_t left = __ballot_sync(kAllLanes, some); left != 0; left &= left - 1) {
      const uint32_t tile = begin + (__ffs(left) - 1) * WarpsOfBlock();
      const Record<kHeads> record = b.record(tile);
      if (!b.narrow) {
#pragma unroll
        for (int h = 0; h < kHeads; ++h) factor[h] = record.factors()[h];
      }
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t at = i * kWarp + Lane();
        const bool reaches = record.RoughScore(at, factor) >= floor &&
                             eligible.Has((b.first_tile + tile) * kTileTokens + at);
        const uint32_t bits = __ballot_sync(kAllLanes, reaches);
        if (Lane() == i) record.bits()[i] = bits;
      }
    }
  }
  __syncthreads();
}

}  // namespace passband::kernels::cuda
