// The inner loops of TIP and what passes between them. A call works on one block
// of tiles and at most kHeadsPerPass query heads, so that what is unpacked from a
// tile is used for all of them and the block's logits stay in the L1 cache.
//
// Contract  pure functions over the caller's memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/tip.h"

namespace passband::kernels {

inline constexpr size_t kHeadsPerPass = 4;
inline constexpr size_t kBlockTiles = 32;
inline constexpr size_t kBlockTokens = kBlockTiles * kTileTokens;

// How one head's logits become weights: a logit times log2_scale is a log2. When
// all logits are known to lie in [0, most], most > 0, and that is narrow enough for
// float's exponents, no maximum needs to be looked for.
struct LogitRange {
  float log2_scale = 1.0F;
  float most = 0.0F;
};
inline constexpr float kNarrowLog2 = 200.0F;
// Logits are kept within this, in log2, so that adding a large constant rounds them.
inline constexpr float kMaxLog2 = 0x1p18F;

// Sums of int8 * code wrap in 16 bits; a segment is a run of words whose sums
// provably fit once `offset` (the most negative sum, negated) is added. One
// segment is usual; the logits of several add up exactly in float (< 2^24).
struct IntSegment {
  size_t word_begin = 0;
  size_t word_end = 0;
  std::array<uint16_t, kHeadsPerPass> offset = {};
};
inline constexpr size_t kMaxSegments = 16;  // each but the last more than half of what always fits

// Up to kHeadsPerPass query heads, rounded to int8. The vector that meets code
// vector k of word w for head h is query[(w * splits + k) * heads + h], its
// 16 bit lanes all equal: low byte the component in the codes' low byte.
struct IntQuery {
  const TileWord* query = nullptr;
  size_t heads = 0;
  size_t segments = 0;
  std::array<IntSegment, kMaxSegments> segment = {};
  std::array<LogitRange, kHeadsPerPass> range = {};
};

// Up to kHeadsPerPass query heads as float, times scale * log2(e):
// query[component * heads + h].
struct FloatQuery {
  const float* query = nullptr;
  size_t heads = 0;
};

// logits[h * kBlockTokens + t] = sum_j q[h][j] * code[t][j] + the segments'
// offsets: an exact integer >= 0.
void IntLogits(SliceEncoding encoding, const TileWord* tiles, size_t words, size_t tile_count,
               const IntQuery& query, float* logits);

// logits[h * kBlockTokens + t] = sum_j q[h][j] * component[t][j], clamped to
// +-kMaxLog2; NaN becomes -kMaxLog2.
void FloatLogits(SliceEncoding encoding, const TileWord* tiles, size_t words, size_t components,
                 size_t tile_count, const FloatQuery& query, float* logits);

// weights[t] = 2^(logits[t] * log2_scale - exponent), where the exponent is an
// integer: a power of two between blocks, so equal logits keep equal weights.
// Reads up to a vector past `count`.
BlockSum BlockWeights(const float* logits, size_t count, const LogitRange& range, float* weights);

// scores[t] = sum_h factors[h] * weights[h * kBlockTokens + t]
void CombineHeads(const float* weights, const float* factors, size_t heads, size_t count,
                  float* scores);

// Asks for what lies 4 KiB after `count` tiles: their stream is broken at every
// block, too often for the hardware to follow it from L3. Always inlined: GCC takes
// a function that only prefetches for one without effect.
inline constexpr size_t kWordsAhead = 128;
[[gnu::always_inline]] inline void PrefetchTiles(const TileWord* tiles, size_t words,
                                                 size_t count) {
  const TileWord* ahead = tiles + kWordsAhead;
  for (size_t i = 0; i < count * words; i += 2) __builtin_prefetch(ahead + i);
}

// Rounds the queries of heads [0, heads) to int8 for spec's encoding, writing
// the vectors into `vectors` (IntQueryWords of them).
size_t IntQueryWords(const SliceSpec& spec, size_t heads);
IntQuery MakeIntQuery(const SliceSpec& spec, const float* queries, size_t heads, float scale,
                      TileWord* vectors);
FloatQuery MakeFloatQuery(const SliceSpec& spec, const float* queries, size_t heads, float scale,
                          float* values);

}  // namespace passband::kernels
