// TIP, token importance prediction: scores every past token of one (sequence,
// layer, kv head) from its slices alone, and normalises within the GQA group.
//
// SliceIndex keeps the slices of one (layer, kv head) of one sequence, in the
// order the scoring loop wants them (tiles of 16 tokens; slice.h's bytes go in
// and come out). Append-only, but for truncation.
//
// Scores   for query head h of the group and token t:
//            a[h][t] = scale * sum_c q[h][c] * decode(slice[t])[c]
//            p[h][t] = softmax over all t of a[h][.]
//            score[t] = mean over h of p[h][t]
//          (raw maxima over the group lose quality: DESIGN section 7.)
//          Scores only select; they never stand in for attention weights.
// Rounding for the int encodings the query, times deviation, is itself rounded
//          to int8 per head, so that a[h][t] is an exact integer product and
//          agrees between backends; what is the same for all tokens drops out.
//          Scores agree to 1e-5 relative, and tokens with equal slices have
//          equal scores. Weights below 2^-120 of the largest of their 512
//          tokens count as that; a NaN product counts as the lowest.
// Units    sizes in tokens, memory in bytes.
// Threads  a SliceIndex is for one writer; concurrent const calls are safe.
// Errors   none: shapes are the caller's promise (checked with assert).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/slice.h"

namespace passband::kernels {

inline constexpr size_t kTileTokens = 16;

// Sixteen bits of the slices of a tile's 16 tokens. A tile is ceil(slice_bytes
// / 2) of them; word w of token t is bytes 2w and 2w + 1 of its slice.
struct alignas(32) TileWord {
  uint16_t lane[kTileTokens];
};

class SliceIndex {
 public:
  // `spec` is shared by many indexes and must outlive them.
  explicit SliceIndex(std::shared_ptr<const SliceSpec> spec);

  // Encodes and appends `tokens` keys (layout as EncodeSlices).
  void AppendKeys(const std::byte* keys, size_t stride_bytes, size_t tokens);
  // Appends slices that are already encoded, [tokens][slice_bytes].
  void AppendSlices(const std::byte* slices, size_t tokens);
  // Forgets tokens >= `tokens`.
  void Truncate(size_t tokens);

  // Copies the slice of one token back out, slice_bytes bytes.
  void CopySlice(size_t token, std::byte* slice) const;

  size_t tokens() const { return tokens_; }
  size_t memory_bytes() const { return tiles_.capacity() * sizeof(TileWord); }
  const SliceSpec& spec() const { return *spec_; }
  // [ceil(tokens / 16)][words_per_tile]; lanes past the last token are undefined.
  const TileWord* tiles() const { return tiles_.data(); }
  size_t words_per_tile() const { return words_per_tile_; }

 private:
  std::shared_ptr<const SliceSpec> spec_;
  size_t words_per_tile_ = 0;
  size_t tokens_ = 0;
  std::vector<TileWord> tiles_;
};

// A block's softmax so far: its sum is sum * 2^exponent.
struct BlockSum {
  float exponent = 0;
  float sum = 0;
};

// Reusable memory of TipScores; grows to the longest context seen.
struct TipScratch {
  std::vector<TileWord> query;
  std::vector<float> logits;
  std::vector<float> weights;
  std::vector<BlockSum> sums;
  std::vector<float> factors;
};

// queries: [group][head_dim] float, after RoPE. scale: 1 / sqrt(head_dim)
// times whatever the model adds. scores: [index.tokens()], written whole.
void TipScores(const SliceIndex& index, const float* queries, int group, float scale,
               TipScratch& scratch, float* scores);

}  // namespace passband::kernels
