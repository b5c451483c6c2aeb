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
//          agrees between backends. Scores agree to 1e-5 relative.
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
  size_t memory_bytes() const { return tiles_.capacity(); }
  const SliceSpec& spec() const { return *spec_; }
  const std::byte* tiles() const { return tiles_.data(); }

 private:
  std::shared_ptr<const SliceSpec> spec_;
  size_t tokens_ = 0;
  std::vector<std::byte> tiles_;
};

// Reusable memory of TipScores; grows to the longest context seen.
struct TipScratch {
  std::vector<int32_t> integer;
  std::vector<float> weights;
};

// queries: [group][head_dim] float, after RoPE. scale: 1 / sqrt(head_dim)
// times whatever the model adds. scores: [index.tokens()], written whole.
void TipScores(const SliceIndex& index, const float* queries, int group, float scale,
               TipScratch& scratch, float* scores);

}  // namespace passband::kernels
