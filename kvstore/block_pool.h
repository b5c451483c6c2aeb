// BlockPool: a free slot, at the expense of what can be had again or is merely cached.
//
// First a free slot; then a clean block of the coldest leaves the arena, for nothing, of a tenant
// that has more than its share if possible (ram_shares.h); a tenant that has more gets none of
// the others'. When there is none, the evictor is told, and the call fails: it never waits for a
// disk, nor for longer than kLongestStall. Rows that are new leave blocks in use where they are
// while others are still to be written: else appends that outrun the disk would push out what
// fetches go on asking for. Without a tier, and while the tier takes no more, the
// columns that only the prefix index claims go.
//
// Units    bytes.
// Threads  safe. Locks the prefix index, then the arena, for a moment each.
// Errors   kResourceExhausted with a retry-after: nothing is to be had now.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>

#include "base/clock.h"
#include "base/status.h"
#include "kvstore/block.h"
#include "kvstore/block_home.h"
#include "kvstore/prefix_index.h"
#include "kvstore/types.h"

namespace passband {

class BlockPool {
 public:
  // Of an allocation that finds no free slot: then it fails, though more searching might do.
  static constexpr std::chrono::milliseconds kLongestStall{20};

  // Both must outlive this.
  BlockPool(BlockHome& home, PrefixIndex& index) : home_(home), index_(index) {}

  // Told after each allocation whether it failed. To be set before the first.
  void set_evictor(std::function<void(bool)> evictor) { evictor_ = std::move(evictor); }
  // While the tier takes no more, cached columns are dropped as if there were none.
  void set_spilling(bool spilling) { spilling_.store(spilling, std::memory_order_relaxed); }

  StatusOr<BlockRef> Allocate(uint64_t bytes, uint32_t planes,
                              TenantSlot tenant = RamShares::kRest);
  // A slot for a block that is to be restored.
  StatusOr<std::byte*> TakeSlot(Block& block);

  // Takes back cached columns, the least recently used first, until `bytes` are free that were
  // not, or none is cached. Returns how many bytes came free.
  uint64_t Evict(uint64_t bytes);

  uint64_t evicted_blocks() const { return evicted_blocks_.load(std::memory_order_relaxed); }
  uint64_t failures() const { return failures_.load(std::memory_order_relaxed); }
  // Of allocations that found no free slot at once: how long they took.
  AllocationStalls stalls() const;

 private:
  template <typename Take>
  bool TakeWith(uint64_t bytes, TenantSlot tenant, BlockHome::Which which, Take take);
  bool EvictOne();
  Status Exhausted(uint64_t bytes);
  template <typename Take>
  bool TakeSlowly(uint64_t bytes, TenantSlot tenant, BlockHome::Which which, Take take);
  void NoteStall(Duration stall);

  BlockHome& home_;
  PrefixIndex& index_;
  std::function<void(bool)> evictor_;
  std::atomic<bool> spilling_{true};
  std::atomic<uint64_t> evicted_blocks_{0};
  std::atomic<uint64_t> failures_{0};
  std::array<std::atomic<uint64_t>, AllocationStalls::kBounds.size() + 1> stalls_{};
  std::atomic<Duration::rep> stall_sum_{0};
  std::atomic<Duration::rep> longest_stall_{0};
};

}  // namespace passband
