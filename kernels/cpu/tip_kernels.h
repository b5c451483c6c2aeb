// The inner loops of TIP and what passes between them. A call works on one run of
// tokens and at most kHeadsPerPass query heads, so that what is unpacked from a
// tile is used for all of them and the run's logits stay in the L1 cache.
//
// Contract  pure functions over the caller's memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/tip.h"

namespace passband::kernels {

inline constexpr size_t kHeadsPerPass = 4;

// How one head's logits become weights: a logit times log2_scale is a log2. When
// all logits are known to lie in [0, most], most > 0, and that is narrow enough for
// float's exponents, no maximum needs to be looked for; if moreover log2_scale is
// fixed_scale * 2^-23, fixed_scale > 0, the log2 of every logit is exact in 32 bits.
struct LogitRange {
  float log2_scale = 1.0F;
  float most = 0.0F;
  uint32_t fixed_scale = 0;
};
inline constexpr float kNarrowLog2 = 200.0F;
// Logits are kept within this, in log2, so that adding a large constant rounds them.
inline constexpr float kMaxLog2 = 0x1p18F;

// One run's tiles, and those of the next to prefetch (the same when there is none):
// the hardware does not follow from run to run.
struct RunTiles {
  const TileWord* tiles = nullptr;
  const TileWord* ahead = nullptr;
  size_t words = 0;  // per tile
  size_t count = 0;
};

// Of int2 slices, for each nibble of a byte and each head what its two components
// add: a table of 16 bytes. Products are made non-negative by an offset, the same
// for all tokens. tables[(word * heads + h) * kTablesPerWord + k] is that of nibble k
// of the slice's 16 bit word.
struct LookupTable {
  uint8_t entry[16];
};
inline constexpr size_t kTablesPerWord = 4;
struct LookupQuery {
  const LookupTable* tables = nullptr;
  size_t heads = 0;
  std::array<LogitRange, kHeadsPerPass> range = {};
};

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

// products[h * kRunTokens + t'] = sum_j q[h][j] * code[t][j] + an offset of h: an
// integer >= 0. Of a tile of n tokens, i and i + n / 2 are next to each other. Int4 is
// for queries of one segment.
void LookupProducts(const RunTiles& run, const LookupQuery& query, uint16_t* products);
void Int4Products(const RunTiles& run, const IntQuery& query, uint16_t* products);
// Products of tiles of `tile_tokens` (32 or 16), in token order and as floats. Reads
// and writes 32 tokens at a time.
void ProductLogits(const uint16_t* products, size_t tile_tokens, size_t count, float* logits);

// logits[h * kRunTokens + t] = sum_j q[h][j] * code[t][j] + the segments'
// offsets: an exact integer >= 0. For int4 and int8.
void IntLogits(SliceEncoding encoding, const RunTiles& run, const IntQuery& query, float* logits);

// logits[h * kRunTokens + t] = sum_j q[h][j] * component[t][j], clamped to
// +-kMaxLog2; NaN becomes -kMaxLog2.
void FloatLogits(SliceEncoding encoding, const RunTiles& run, size_t components,
                 const FloatQuery& query, float* logits);

// weights[t] = 2^(logits[t] * log2_scale - exponent), where the exponent is an
// integer: a power of two between runs, so equal logits keep equal weights.
// Reads up to a vector past `count`.
RunSum RunWeights(const float* logits, size_t count, const LogitRange& range, float* weights);
inline bool IsNarrow(const LogitRange& range) {
  return range.most > 0 && range.most * range.log2_scale <= kNarrowLog2;
}
// The same of products, as ProductLogits has them, with a fixed_scale.
RunSum ProductWeights(const uint16_t* products, size_t tile_tokens, size_t count,
                      const LogitRange& range, float* weights);

// scores[t] = sum_h factors[h] * weights[h * kRunTokens + t]
void CombineHeads(const float* weights, const float* factors, size_t heads, size_t count,
                  float* scores);

// Asks for a tile. Always inlined: GCC takes a function that only prefetches for
// one without effect.
[[gnu::always_inline]] inline void PrefetchTile(const TileWord* tile, size_t words) {
  for (size_t w = 0; w < words; w += 2) __builtin_prefetch(tile + w, 0, 2);
}

// Round the queries of heads [0, heads) as tip.h says for spec's encoding, writing
// the tables (LookupTables of them) or vectors (IntQueryWords).
size_t LookupTables(const SliceSpec& spec, size_t heads);
LookupQuery MakeLookupQuery(const SliceSpec& spec, const float* queries, size_t heads, float scale,
                            LookupTable* tables);
size_t IntQueryWords(const SliceSpec& spec, size_t heads);
IntQuery MakeIntQuery(const SliceSpec& spec, const float* queries, size_t heads, float scale,
                      TileWord* vectors);
FloatQuery MakeFloatQuery(const SliceSpec& spec, const float* queries, size_t heads, float scale,
                          float* values);

}  // namespace passband::kernels
