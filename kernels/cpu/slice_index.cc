#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include "kernels/tip.h"

namespace passband::kernels {
namespace {

constexpr size_t kMaxSliceBytes = 2 * kMaxChunks * 2;
constexpr size_t kSlicesAtOnce = 16;

// Where the bytes of one slice are within its tile: `width` bytes in each word,
// from byte `at` on.
struct Lane {
  size_t at = 0;
  size_t width = 0;
};

Lane LaneOf(SliceEncoding encoding, size_t token) {
  const size_t t = token % TileTokens(encoding);
  if (encoding == SliceEncoding::kInt2) return {t % 8 * 4 + t / 8, 1};
  return {t % 8 * 4 + t / 8 * 2, 2};
}

std::byte* LaneBytes(TileWord* word, Lane lane) {
  return reinterpret_cast<std::byte*>(word) + lane.at;
}

// The last word of an odd slice is filled up with zero.
void ScatterSlice(const std::byte* slice, size_t slice_bytes, Lane lane, TileWord* tile) {
  if (lane.width == 1) {
    for (size_t w = 0; w < slice_bytes; ++w) *LaneBytes(tile + w, lane) = slice[w];
    return;
  }
  const size_t whole = slice_bytes / 2;
  for (size_t w = 0; w < whole; ++w) std::memcpy(LaneBytes(tile + w, lane), slice + 2 * w, 2);
  if (slice_bytes % 2 != 0) {
    const std::byte last[2] = {slice[2 * whole], std::byte{0}};
    std::memcpy(LaneBytes(tile + whole, lane), last, 2);
  }
}

}  // namespace

SliceIndex::SliceIndex(std::shared_ptr<const SliceSpec> spec)
    : spec_(std::move(spec)),
      tile_tokens_(TileTokens(spec_->encoding)),
      words_per_tile_(spec_->encoding == SliceEncoding::kInt2 ? spec_->slice_bytes()
                                                              : (spec_->slice_bytes() + 1) / 2) {}

void SliceIndex::AppendKeys(const std::byte* keys, size_t stride_bytes, size_t tokens) {
  std::byte slices[kSlicesAtOnce * kMaxSliceBytes];
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
  for (size_t end = tokens_ + tokens; tokens_ < end;) {
    const size_t begin = tokens_ / kRunTokens * kRunTokens;
    const size_t run_end = std::min(end, begin + kRunTokens);
    GrowTo(run_end);
    TileWord* run = runs_.back().data();
    for (; tokens_ < run_end; ++tokens_, slices += slice_bytes) {
      ScatterSlice(slices, slice_bytes, LaneOf(spec_->encoding, tokens_), run + TileAt(tokens_));
    }
  }
}

void SliceIndex::Truncate(size_t tokens) {
  assert(tokens <= tokens_);
  tokens_ = tokens;
  runs_.resize((tokens + kRunTokens - 1) / kRunTokens);
}

void SliceIndex::CopySlice(size_t token, std::byte* slice) const {
  assert(token < tokens_);
  const TileWord* tile = run(token / kRunTokens) + TileAt(token);
  const Lane lane = LaneOf(spec_->encoding, token);
  const size_t slice_bytes = spec_->slice_bytes();
  for (size_t at = 0; at < slice_bytes; at += lane.width) {
    std::memcpy(slice + at, reinterpret_cast<const std::byte*>(tile++) + lane.at,
                std::min(lane.width, slice_bytes - at));
  }
}

size_t SliceIndex::memory_bytes() const {
  size_t bytes = runs_.capacity() * sizeof(runs_[0]);
  for (const auto& run : runs_) bytes += run.capacity() * sizeof(TileWord);
  return bytes;
}

void SliceIndex::GrowTo(size_t tokens) {
  const size_t index = (tokens - 1) / kRunTokens;
  if (index == runs_.size()) runs_.emplace_back();
  const size_t full = kRunTokens / tile_tokens_ * words_per_tile_;
  const size_t tiles = (tokens - index * kRunTokens + tile_tokens_ - 1) / tile_tokens_;
  const size_t words = tiles * words_per_tile_;
  std::vector<TileWord>& run = runs_.back();
  // Only the first run, which may be all there is, grows as it fills.
  const size_t room = index > 0 ? full : std::min(full, std::max(words, 2 * run.capacity()));
  if (words > run.capacity()) run.reserve(room);
  if (words > run.size()) run.resize(words);
}

size_t SliceIndex::TileAt(size_t token) const {
  return token % kRunTokens / tile_tokens_ * words_per_tile_;
}

}  // namespace passband::kernels
