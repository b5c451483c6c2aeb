// BlockPool: a free block, at the expense of the prefix cache if need be.
//
// Units    bytes.
// Threads  safe. Locks the prefix index, then the arena, for a moment each.
// Errors   kResourceExhausted with a retry-after: no block is free and none is
//          merely cached.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/status.h"
#include "kvstore/arena.h"
#include "kvstore/block.h"
#include "kvstore/prefix_index.h"

namespace passband {

class BlockPool {
 public:
  // Both must outlive this.
  BlockPool(Arena& arena, PrefixIndex& index) : arena_(arena), index_(index) {}

  StatusOr<BlockRef> Allocate(uint64_t bytes);
  // Gives cached blocks back, the least recently used first, until `bytes` are
  // free that were not, or none is cached. Returns how many bytes came free.
  uint64_t Evict(uint64_t bytes);

  uint64_t evicted_blocks() const { return evicted_blocks_.load(std::memory_order_relaxed); }
  uint64_t failures() const { return failures_.load(std::memory_order_relaxed); }

 private:
  bool EvictOne();

  Arena& arena_;
  PrefixIndex& index_;
  std::atomic<uint64_t> evicted_blocks_{0};
  std::atomic<uint64_t> failures_{0};
};

}  // namespace passband
