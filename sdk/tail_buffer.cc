#include "sdk/tail_buffer.h"

#include <algorithm>
#include <cstring>

#include "base/status.h"

namespace passband {

TailBuffer::TailBuffer(uint32_t kv_heads, size_t row_bytes, uint32_t recent, uint64_t first)
    : kv_heads_(kv_heads),
      row_bytes_(row_bytes),
      recent_(recent),
      blocks_((recent + kBlockTokens - 1) / kBlockTokens + 1),
      block_bytes_(size_t{kv_heads} * kBlockTokens * row_bytes),
      begin_(first),
      end_(first) {}

uint64_t TailBuffer::BeginFor(uint64_t end) const {
  const uint64_t window = end > recent_ ? end - recent_ : 0;
  // A block leaves as a whole, and the one that is being filled stays.
  const uint64_t first = std::min(window, end > 0 ? end - 1 : 0) / kBlockTokens * kBlockTokens;
  return std::max(begin_, first);
}

void TailBuffer::Append(const std::byte* rows, size_t head_stride, uint32_t count) {
  const uint64_t offset = end_ % kBlockTokens;
  PASSBAND_CHECK(count > 0 && offset + count <= kBlockTokens);
  if (memory_.size() == 0) memory_ = PageBuffer(blocks_ * block_bytes_);
  begin_ = BeginFor(end_ + count);
  std::byte* to = Block(end_) + offset * row_bytes_;
  for (uint32_t head = 0; head < kv_heads_; ++head) {
    std::memcpy(to + head * kBlockTokens * row_bytes_, rows + head * head_stride,
                count * row_bytes_);
  }
  end_ += count;
}

std::span<const std::byte> TailBuffer::Rows(uint64_t first, uint32_t count,
                                            std::vector<std::byte>& scratch) const {
  PASSBAND_CHECK(first >= begin_ && first + count <= end_);
  PASSBAND_CHECK(first % kBlockTokens + count <= kBlockTokens);
  if (count == kBlockTokens) return {Block(first), block_bytes_};
  const size_t head_bytes = count * row_bytes_;
  scratch.resize(kv_heads_ * head_bytes);
  for (uint32_t head = 0; head < kv_heads_; ++head) {
    std::memcpy(scratch.data() + head * head_bytes, row(head, first), head_bytes);
  }
  return scratch;
}

void TailBuffer::Truncate(uint64_t tokens) {
  end_ = std::min(end_, tokens);
  begin_ = std::min(begin_, tokens);
}

}  // namespace passband
