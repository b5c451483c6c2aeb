// TailBuffer: the newest rows of one layer of one sequence: all that are not
// yet sent, and at least the recent window.
//
// A ring of blocks in the store's own order, [kv_head][64], so that a complete
// block is sent as it lies.
//
// Units      tokens; memory in bytes.
// Threads    one at a time.
// Ownership  owns its rows; a row's address holds until the token leaves, by
//            Append or Truncate.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "sdk/page_buffer.h"

namespace passband {

class TailBuffer {
 public:
  static constexpr uint32_t kBlockTokens = 64;

  // Keeps the newest `recent` tokens at least. Starts empty, at token `first`.
  TailBuffer(uint32_t kv_heads, size_t row_bytes, uint32_t recent, uint64_t first);

  // Tokens [begin, end) are held.
  uint64_t begin() const { return begin_; }
  uint64_t end() const { return end_; }

  // Where begin() goes when the tail grows to `end` tokens: what lies before
  // it must have been sent by then.
  uint64_t BeginFor(uint64_t end) const;

  // Appends `count` tokens that end within the block of end(). The rows of
  // head h start at rows + h * head_stride.
  void Append(const std::byte* rows, size_t head_stride, uint32_t count);

  // The row of a held token.
  const std::byte* row(uint32_t kv_head, uint64_t token) const {
    return Block(token) + (kv_head * kBlockTokens + token % kBlockTokens) * row_bytes_;
  }

  // Rows [first, first + count), held and within one block, as
  // [kv_head][count][row_bytes]; in `scratch` unless they are a whole block.
  std::span<const std::byte> Rows(uint64_t first, uint32_t count,
                                  std::vector<std::byte>& scratch) const;

  // Forgets tokens >= `tokens`.
  void Truncate(uint64_t tokens);

  size_t memory_bytes() const { return memory_.size(); }

 private:
  std::byte* Block(uint64_t token) const {
    return memory_.data() + token / kBlockTokens % blocks_ * block_bytes_;
  }

  uint32_t kv_heads_;
  size_t row_bytes_;
  uint32_t recent_;
  uint32_t blocks_;
  size_t block_bytes_;
  uint64_t begin_;
  uint64_t end_;
  PageBuffer memory_;  // made when first used
};

}  // namespace passband
