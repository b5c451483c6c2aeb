// TIP, token importance prediction: scores every past token of one (sequence,
// layer, kv head) from its slices alone, and normalises within the GQA group.
//
// SliceIndex keeps the slices of one (layer, kv head) of one sequence, in the
// order the scoring loop wants them (slice.h's bytes go in and come out), in
// runs of 512 tokens that never move. Append-only, but for truncation.
//
// Scores   for query head h of the group and token t:
//            a[h][t] = scale * sum_c q[h][c] * decode(slice[t])[c]
//            p[h][t] = softmax over all t of a[h][.]
//            score[t] = mean over h of p[h][t]
//          (raw maxima over the group lose quality: DESIGN section 7.)
//          Scores only select; they never stand in for attention weights.
// Rounding for the int encodings the query, times deviation, is itself rounded
//          to integer levels per head, so that a[h][t] is an exact integer
//          product and agrees between backends; what is the same for all tokens
//          drops out. The step between levels is
//            int8, int4  the largest magnitude / 127
//            int2        the largest sum of magnitudes over eight components of
//                        one 16 bit word of the slice / 81, so that the levels of
//                        a word come to at most 85 and a word's product to a byte
//          and, where that is 2^-18 or more in log2, the next multiple of 2^-23.
//          By estimate, of 24 chunks, int2's coarser rounding adds at most about
//          0.5 % of the logits' variance; rounding the key to 2 bits adds 12 %.
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

inline constexpr size_t kRunTokens = 512;

// Tokens whose slices are interleaved.
constexpr size_t TileTokens(SliceEncoding encoding) {
  return encoding == SliceEncoding::kInt2 ? 32 : 16;
}

// 32 bytes of a tile. A tile of slices with more than 2 bit is ceil(slice_bytes /
// 2) words; word w holds bytes 2w and 2w + 1 of the slice of token t from byte
// t % 8 * 4 + t / 8 * 2 on. An int2 tile is slice_bytes words; word w holds byte w of
// the slice of token t at byte t % 8 * 4 + t / 8. Sums of 8 or 16 bits so widen to 32
// in token order.
struct alignas(32) TileWord {
  uint16_t lane[16];
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
  // Below 512 tokens at most twice the slices, past it at most a run more.
  size_t memory_bytes() const;
  const SliceSpec& spec() const { return *spec_; }
  size_t runs() const { return runs_.size(); }
  // Tokens [512 * run, ...): [ceil(tokens / TileTokens)][words_per_tile]; lanes
  // past the last token are undefined.
  const TileWord* run(size_t run) const { return runs_[run].data(); }
  size_t words_per_tile() const { return words_per_tile_; }

 private:
  // Makes room for tokens [0, tokens) in the last run, or in a new one.
  void GrowTo(size_t tokens);
  size_t TileAt(size_t token) const;

  std::shared_ptr<const SliceSpec> spec_;
  size_t tile_tokens_ = 0;
  size_t words_per_tile_ = 0;
  size_t tokens_ = 0;
  std::vector<std::vector<TileWord>> runs_;
};

// A run's softmax so far: its sum is sum * 2^exponent.
struct RunSum {
  float exponent = 0;
  float sum = 0;
};

// Reusable memory of TipScores; grows to the longest context seen.
struct TipScratch {
  std::vector<TileWord> query;  // these as memory aligned for whole vectors
  std::vector<TileWord> products;
  std::vector<TileWord> logits;
  std::vector<TileWord> weights;
  std::vector<RunSum> sums;
  std::vector<float> factors;
};

// queries: [group][head_dim] float, after RoPE. scale: 1 / sqrt(head_dim)
// times whatever the model adds. scores: [index.tokens()], written whole.
void TipScores(const SliceIndex& index, const float* queries, int group, float scale,
               TipScratch& scratch, float* scores);

}  // namespace passband::kernels
