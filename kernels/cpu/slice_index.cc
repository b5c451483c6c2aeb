#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include "kernels/tip.h"

namespace passband::kernels {
namespace {

constexpr size_t kMaxSliceBytes = 2 * kMaxChunks * 2;

// Writes one slice into its lane of a tile.
void ScatterSlice(const std::byte* slice, size_t slice_bytes, size_t lane, TileWord* tile) {
  const size_t whole = slice_bytes / 2;
  for (size_t w = 0; w < whole; ++w) std::memcpy(&tile[w].lane[lane], slice + 2 * w, 2);
  if (slice_bytes % 2 != 0) tile[whole].lane[lane] = std::to_integer<uint16_t>(slice[2 * whole]);
}

}  // namespace

SliceIndex::SliceIndex(std::shared_ptr<const SliceSpec> spec)
    : spec_(std::move(spec)), words_per_tile_((spec_->slice_bytes() + 1) / 2) {}

void SliceIndex::AppendKeys(const std::byte* keys, size_t stride_bytes, size_t tokens) {
  std::byte slices[kTileTokens * kMaxSliceBytes];
  assert(spec_->slice_bytes() <= kMaxSliceBytes);
  for (size_t done = 0; done < tokens;) {
    const size_t fit = sizeof(slices) / std::max<size_t>(spec_->slice_bytes(), 1);
    const size_t count = std::min(fit, tokens - done);
    EncodeSlices(*spec_, keys + done * stride_bytes, stride_bytes, count, slices);
    AppendSlices(slices, count);
    done += count;
  }
}

void SliceIndex::AppendSlices(const std::byte* slices, size_t tokens) {
  const size_t slice_bytes = spec_->slice_bytes();
  const size_t tiles = (tokens_ + tokens + kTileTokens - 1) / kTileTokens;
  tiles_.resize(tiles * words_per_tile_);
  for (size_t i = 0; i < tokens; ++i, ++tokens_) {
    TileWord* tile = tiles_.data() + tokens_ / kTileTokens * words_per_tile_;
    ScatterSlice(slices + i * slice_bytes, slice_bytes, tokens_ % kTileTokens, tile);
  }
}

void SliceIndex::Truncate(size_t tokens) {
  assert(tokens <= tokens_);
  tokens_ = tokens;
  tiles_.resize((tokens + kTileTokens - 1) / kTileTokens * words_per_tile_);
}

void SliceIndex::CopySlice(size_t token, std::byte* slice) const {
  assert(token < tokens_);
  const TileWord* tile = tiles_.data() + token / kTileTokens * words_per_tile_;
  const size_t slice_bytes = spec_->slice_bytes();
  for (size_t at = 0; at < slice_bytes; at += 2) {
    const uint16_t word = tile[at / 2].lane[token % kTileTokens];
    std::memcpy(slice + at, &word, std::min<size_t>(2, slice_bytes - at));
  }
}

}  // namespace passband::kernels
