// TIP and select of one problem by the blocks of a cluster: what they share, how the
// normalisers and the floor are agreed on, and how tokens are listed in order.
//
// Contract  called by all threads of the cluster together, in the order of
//           tip_select.cu's kernel.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/slices.h"
#include "kernels/cuda/tip_query.cuh"
#include "kernels/cuda/tip_select.h"

namespace passband::kernels::cuda {

inline constexpr float kNoExponent = -1e30F;  // below all that occur; its power is 0

struct TipParams {
  SliceShape shape;
  const DeviceRecipe* recipes;
  uint32_t kv_heads;
  uint32_t group;
  float scale;
  SelectOptions select;
  uint32_t max_tokens;
  const std::byte* const* tiles;
  const uint32_t* tokens;
  const void* queries;
  bool queries_bf16;
  uint32_t* selected;
  uint32_t* counts;
  float* scores;
  std::byte* spill;
  uint32_t held_tiles;
  uint32_t spilled_tiles;
  uint32_t groups;
  uint32_t candidates;
};

// Bins of keys, 16 an octave: from 2^-62 (and all below) to 4 (and all above).
inline constexpr uint32_t kBins = 1024;
inline constexpr uint32_t kBinShift = 19;
inline constexpr uint32_t kFirstBin = (127 - 62) << 4;

// A softmax so far: its sum is sum * 2^exponent.
struct HeadSum {
  float exponent;
  float sum;
};

template <int kHeads>
struct TipShared {
  TipQuery<kHeads> query;
  HeadSum of_warp[kMaxWarps][kHeads];
  HeadSum of_block[kMaxCluster][kHeads];  // written by the blocks they are of
  float top[kHeads];
  float share[kHeads];  // 1 / (the softmax's sum * group); 0 past the group
  uint32_t listed;
  uint32_t votes[2][kMaxCluster];  // written by the blocks they are of
  uint32_t bin[kBins];
  uint32_t found;
  BlockSums sums;
};

// One tile's record (tip_select.h).
template <int kHeads>
struct Record {
  std::byte* at;
  __device__ uint16_t* weights() const { return reinterpret_cast<uint16_t*>(at); }
  __device__ float* exponents() const {
    return reinterpret_cast<float*>(at + kTileTokens * kHeads * 2);
  }
  __device__ float* factors() const { return exponents() + kHeads; }
  __device__ uint32_t* bits() const { return reinterpret_cast<uint32_t*>(factors() + kHeads); }
  // The exact score of a token, once it has replaced the weights.
  __device__ float& score(uint32_t token) const {
    return *reinterpret_cast<float*>(at + token * kHeads * 2);
  }
  // The score from the rounded weights; a pair's upper one is read with the lower one's
  // bits beneath it.
  __device__ float RoughScore(uint32_t token, const float (&factor)[kHeads]) const {
    float score = 0;
    const auto* pairs = reinterpret_cast<const uint2*>(weights() + token * kHeads);
#pragma unroll
    for (int h = 0; h < kHeads; h += 4) {
      const uint2 pair = pairs[h / 4];
      score = fmaf(__uint_as_float(pair.x << 16), factor[h], score);
      score = fmaf(__uint_as_float(pair.x), factor[h + 1], score);
      score = fmaf(__uint_as_float(pair.y << 16), factor[h + 2], score);
      score = fmaf(__uint_as_float(pair.y), factor[h + 3], score);
    }
    return score;
  }
};

// This block's part of the problem, and its memory.
template <int kHeads>
struct TipBlock {
  uint32_t rank;
  uint32_t blocks;
  uint32_t tokens;
  uint32_t first_tile;
  uint32_t tiles;
  const std::byte* slices;
  uint32_t tile_bytes;
  std::byte* held;
  uint32_t held_tiles;
  std::byte* spilled;
  uint32_t* candidate;  // [candidates] tokens, and their scores
  float* candidate_score;
  uint32_t* maxima;  // [groups], written by the blocks they are of; later the merged list
  bool narrow;       // no exponents: all of them are 0, and all factors the shares
  uint32_t turn;     // of the block sums
  uint32_t vote;     // of the votes

  __device__ Record<kHeads> record(uint32_t tile) const {
    return {tile < held_tiles ? held + tile * RecordBytes(kHeads)
                              : spilled + size_t{tile - held_tiles} * RecordBytes(kHeads)};
  }
  __device__ float ExponentOf(uint32_t tile, uint32_t head) const {
    return narrow ? 0 : record(tile).exponents()[head];
  }
  __device__ float FactorOf(const TipShared<kHeads>& s, uint32_t tile, uint32_t head) const {
    return narrow ? s.share[head] : record(tile).factors()[head];
  }
  __device__ const std::byte* tile(uint32_t tile) const {
    return slices + size_t{first_tile + tile} * tile_bytes;
  }
};

// A weight, the same for equal products whatever the exponent that was taken off: what is
// rounded does not depend on it.
inline constexpr float kLeastWeight = -120.0F;  // in log2, of the largest of a tile
__device__ inline float ExactWeight(float product, float scale, float exponent) {
  const float whole = rintf(product * scale);
  const float power = fmaxf(whole - exponent, kLeastWeight);
  const float fraction = power == whole - exponent ? fmaf(product, scale, -whole) : 0.0F;
  return Exp2(fraction) * __int_as_float((static_cast<int>(power) + 127) << 23);
}

// The order of scores as an integer: 0 for none, then 1 + the bits of the float.
__device__ inline uint32_t KeyOf(float score) {
  return score >= 0 ? __float_as_uint(score) + 1 : 0;
}

// Whether a tile has tokens that are not there, or are selected anyway; and which.
struct Eligible {
  uint32_t begin;
  uint32_t end;
  __device__ Eligible(uint32_t tokens, const SelectOptions& select)
      : begin(select.sinks), end(tokens - select.recent) {}
  __device__ bool All(uint32_t tile) const {
    return tile * kTileTokens >= begin && (tile + 1) * kTileTokens <= end;
  }
  __device__ bool Has(uint32_t token) const { return token >= begin && token < end; }
};

// One sum of the lanes' sums.
__device__ inline HeadSum Combine(HeadSum of_lane) {
  HeadSum all = {WarpMax(of_lane.exponent), 0};
  all.sum = of_lane.sum * Exp2(of_lane.exponent - all.exponent);
  for (uint32_t step = kWarp / 2; step > 0; step /= 2) {
    all.sum += __shfl_xor_sync(kAllLanes, all.sum, step);
  }
  return all;
}

// Combines the warps' sums, gives them to the other blocks, and makes of all blocks'
// sums the factors of the tiles. A warp does a head.
template <int kHeads>
__device__ void AgreeOnSums(TipShared<kHeads>& s, const TipBlock<kHeads>& b, uint32_t group) {
  __syncthreads();
  ClusterWait();  // all blocks have begun
  const uint32_t head = WarpOfBlock();
  const HeadSum none = {kNoExponent, 0};
  if (head < kHeads) {
    const HeadSum all = Combine(Lane() < WarpsOfBlock() ? s.of_warp[Lane()][head] : none);
    if (Lane() < b.blocks) *InBlock(&s.of_block[b.rank][head], Lane()) = all;
  }
  ClusterSync();
  if (head < kHeads) {
    const HeadSum all = Combine(Lane() < b.blocks ? s.of_block[Lane()][head] : none);
    if (Lane() == 0) {
      s.top[head] = all.exponent;
      s.share[head] = head < group ? 1.0F / (all.sum * static_cast<float>(group)) : 0.0F;
    }
  }
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < b.tiles * kHeads && !b.narrow; i += blockDim.x) {
    const Record<kHeads> record = b.record(i / kHeads);
    const uint32_t h = i % kHeads;
    record.factors()[h] = Exp2(record.exponents()[h] - s.top[h]) * s.share[h];
  }
  __syncthreads();
}

// The sum over the cluster.
template <int kHeads>
__device__ uint32_t ClusterSum(TipShared<kHeads>& s, TipBlock<kHeads>& b, uint32_t value) {
  const uint32_t of_block = BlockSum(s.sums, b.turn, value);
  if (threadIdx.x < b.blocks) *InBlock(&s.votes[b.vote][b.rank], threadIdx.x) = of_block;
  ClusterSync();
  const uint32_t total = WarpSum(Lane() < b.blocks ? s.votes[b.vote][Lane()] : 0);
  b.vote ^= 1;
  return total;
}

// The largest key that `count` finds at least `wanted` of, `low` when there is none, or a
// lower one that no more than `enough` reach.
template <class Count>
__device__ uint32_t LargestReached(uint32_t low, uint32_t high, uint32_t wanted, uint32_t enough,
                                   const Count& count) {
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    const uint32_t reached = count(middle);
    if (reached >= wanted) {
      low = middle;
      if (reached <= enough) break;
    } else {
      high = middle;
    }
  }
  return low;
}
inline constexpr uint32_t kKeysEnd = 0x7f800002U;  // past the key of infinity

// Keys that reach `floor`, of the block's own copy.
template <int kHeads>
__device__ uint32_t CountKeys(TipShared<kHeads>& s, TipBlock<kHeads>& b, const uint32_t* keys,
                              uint32_t count, uint32_t floor) {
  uint32_t reached = 0;
  for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) reached += keys[i] >= floor ? 1 : 0;
  return BlockSum(s.sums, b.turn, reached);
}

// The bin of a key, and the least key of a bin.
__device__ inline uint32_t BinOf(uint32_t key) {
  const uint32_t bin = (key - 1) >> kBinShift;
  return min(bin < kFirstBin ? 0 : bin - kFirstBin, kBins - 1);
}
__device__ inline uint32_t LeastKey(uint32_t bin) {
  return bin == 0 ? 1 : ((bin + kFirstBin) << kBinShift) + 1;
}

// Of the block's own copy of keys (0 counts for nothing): the highest bin such that
// `wanted` keys are in it or above, 0 when there is none.
template <int kHeads>
__device__ uint32_t FindBin(TipShared<kHeads>& s, TipBlock<kHeads>& b, const uint32_t* keys,
                            uint32_t count, uint32_t wanted) {
  for (uint32_t i = threadIdx.x; i < kBins; i += blockDim.x) s.bin[i] = 0;
  if (threadIdx.x == 0) s.found = 0;
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
    if (keys[i] > 0) atomicAdd(&s.bin[BinOf(keys[i])], 1);
  }
  __syncthreads();
  const uint32_t of_thread = kBins / blockDim.x;
  const uint32_t end = kBins - threadIdx.x * of_thread;
  uint32_t here = 0;
  for (uint32_t i = 1; i <= of_thread; ++i) here += s.bin[end - i];
  uint32_t reached = BlockScan(s.sums, b.turn, here).before;
  if (reached < wanted && reached + here >= wanted) {
    uint32_t bin = end;
    while (reached < wanted) reached += s.bin[--bin];
    s.found = bin;
  }
  __syncthreads();
  return s.found;
}

// Each lane's four maxima, merged to `groups / blocks` a block and given to all blocks.
template <int kHeads>
__device__ void ShareMaxima(TipBlock<kHeads>& b, float (&best)[4], uint32_t groups) {
  const uint32_t of_block = groups / b.blocks;
  const uint32_t of_warp = of_block / WarpsOfBlock();
  uint32_t slots = 4;
  if (of_warp < slots * kWarp) {
    best[0] = fmaxf(best[0], best[2]);
    best[1] = fmaxf(best[1], best[3]);
    slots = 2;
  }
  if (of_warp < slots * kWarp) {
    best[0] = fmaxf(best[0], best[1]);
    slots = 1;
  }
  uint32_t lanes = kWarp;
  for (; slots * lanes > of_warp && lanes > 1; lanes /= 2) {
    best[0] = fmaxf(best[0], __shfl_xor_sync(kAllLanes, best[0], lanes / 2));
  }
  if (Lane() < lanes) {
    const uint32_t at = b.rank * of_block + WarpOfBlock() * of_warp + Lane() * slots;
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      if (i >= slots) continue;
      for (uint32_t r = 0; r < b.blocks; ++r) *InBlock(b.maxima + at + i, r) = KeyOf(best[i]);
    }
  }
  ClusterSync();
}

// Writes the tokens whose bits are set in the records, in order; returns how many.
template <int kHeads, class Write>
__device__ uint32_t ListMarked(TipShared<kHeads>& s, TipBlock<kHeads>& b, const Write& write) {
  uint32_t listed = 0;
  const uint32_t words = b.tiles * (kTileTokens / 32);
  for (uint32_t begin = 0; begin < words; begin += blockDim.x) {
    const uint32_t word = begin + threadIdx.x;
    uint32_t bits = word < words ? b.record(word / 4).bits()[word % 4] : 0;
    const Scan scan = BlockScan(s.sums, b.turn, __popc(bits));
    for (uint32_t at = listed + scan.before; bits != 0; bits &= bits - 1, ++at) {
      write(at, b.first_tile * kTileTokens + word * 32 + __ffs(bits) - 1);
    }
    listed += scan.total;
  }
  return listed;
}

}  // namespace passband::kernels::cuda
