#include "kvstore/block_pool.h"

#include <chrono>

#include "base/units.h"

namespace passband {
namespace {

// About the time in which some sequence ends or a batch moves on.
constexpr std::chrono::milliseconds kRetryAfter{100};

}  // namespace

StatusOr<BlockRef> BlockPool::Allocate(uint64_t bytes) {
  while (true) {
    if (BlockRef block = arena_.Allocate(bytes)) return block;
    if (EvictOne()) continue;
    // Another thread may have evicted between the two.
    if (BlockRef block = arena_.Allocate(bytes)) return block;
    failures_.fetch_add(1, std::memory_order_relaxed);
    return WithRetryAfter(
        Error(StatusCode::kResourceExhausted, "no block of {} is free: {} of {} are in use",
              FormatBytes(bytes), FormatBytes(arena_.used_bytes()), FormatBytes(arena_.bytes())),
        kRetryAfter);
  }
}

uint64_t BlockPool::Evict(uint64_t bytes) {
  const uint64_t before = arena_.used_bytes();
  uint64_t freed = 0;
  while (freed < bytes && EvictOne()) {
    const uint64_t now = arena_.used_bytes();
    freed = before > now ? before - now : 0;
  }
  return freed;
}

bool BlockPool::EvictOne() {
  const uint64_t blocks = index_.EvictOne();
  evicted_blocks_.fetch_add(blocks, std::memory_order_relaxed);
  return blocks > 0;
}

}  // namespace passband
