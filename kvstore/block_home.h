// BlockHome: where blocks live: in slots of the arena, and in the tier below it. It makes
// blocks, finds cold ones, and counts.
//
// Units      bytes. A tick is the time in which a 16th of the arena was taken anew: how old a
//            block's last use is, is told in ticks.
// Threads    safe. Takes the arena's lock; none is held while a block is destroyed.
// Ownership  arena and tier must outlive it, and it the blocks.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "kvstore/arena.h"
#include "kvstore/block.h"
#include "kvstore/block_watcher.h"
#include "kvstore/tier.h"

namespace passband {

class BlockHome {
 public:
  // Whose blocks may leave RAM: those of tenants that pay, or theirs first and then anybody's.
  enum class Whose : uint8_t { kPayers, kAnyones };

  // `tier` may be null: every block stays resident. So may `watcher`, when no block is watched;
  // it must outlive the blocks.
  BlockHome(Arena& arena, Tier* tier, BlockWatcher* watcher = nullptr)
      : arena_(arena), tier_(tier), watcher_(watcher) {}
  BlockHome(const BlockHome&) = delete;
  BlockHome& operator=(const BlockHome&) = delete;

  Arena& arena() const { return arena_; }
  Tier* tier() const { return tier_; }
  RamShares& shares() { return shares_; }
  const RamShares& shares() const { return shares_; }

  // A resident block with arbitrary content; null when no slot is free.
  BlockRef Create(uint64_t bytes, uint32_t planes, TenantSlot tenant = RamShares::kRest);
  // A block that the tier holds.
  BlockRef Adopt(uint64_t bytes, uint32_t planes, const BlockAddress& address,
                 TenantSlot tenant = RamShares::kRest);

  // A slot for a block that is to be restored; null when none is free.
  std::byte* TakeSlot(Block& block);
  void FreeSlot(std::byte* slot);

  // Which of them: while others are still to be written, those in use are worth waiting for.
  enum class Which : uint8_t { kCold, kAny };

  // At whose expense the tenant may have a slot.
  Whose PayersFor(TenantSlot tenant);
  // Drops clean blocks that nobody pins, cold ones first, until `bytes` came free (those of
  // `like` bytes first, if not 0), or there are none. Returns the bytes that came free.
  uint64_t DropClean(uint64_t bytes, uint64_t like, Whose whose, Which which = Which::kAny);
  // Some of the coldest blocks that have to be written, of tenants that pay if they have any,
  // from where the last call ended; none once a whole round found none. For one thread at a time.
  std::vector<BlockRef> ColdDirty(size_t count);

  // Blocks of `generation` and before are not in the tier any more. Between BeginForgetting
  // and this, no block is dropped in trust of its copy.
  void BeginForgetting() { forgetting_.store(true); }
  void Forget(uint64_t generation);
  void StopForgetting() { forgetting_.store(false); }
  uint64_t forgotten_generation() const { return forgotten_generation_.load(); }

  // Whether blocks that go leave their copies where they are: they are wanted after a restart.
  void KeepCopies(bool keep) { keeping_.store(keep, std::memory_order_relaxed); }

  // Waits until a slot came free or a block became clean, at most until `until`.
  void WaitForRoom(Time until);
  void NoteRoom();

  uint32_t tick() const { return tick_.load(std::memory_order_relaxed); }
  uint64_t cached_bytes() const { return Count(cached_bytes_); }    // of used ones
  uint64_t clean_bytes() const { return Count(clean_bytes_); }      // resident
  uint64_t dirty_bytes() const { return Count(dirty_bytes_); }      // frozen, not in the tier
  uint64_t spilled_bytes() const { return Count(spilled_bytes_); }  // in the tier only
  uint64_t dropped_blocks() const { return dropped_blocks_.load(std::memory_order_relaxed); }

 private:
  friend class Block;

  static uint64_t Count(const std::atomic<int64_t>& count) {
    return static_cast<uint64_t>(std::max<int64_t>(0, count.load(std::memory_order_relaxed)));
  }
  void AddCached(int64_t bytes) { cached_bytes_.fetch_add(bytes, std::memory_order_relaxed); }
  void AddClean(TenantSlot tenant, int64_t bytes) {
    clean_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    shares_.AddClean(tenant, bytes);
  }
  void AddDirty(int64_t bytes) { dirty_bytes_.fetch_add(bytes, std::memory_order_relaxed); }
  void AddSpilled(int64_t bytes) { spilled_bytes_.fetch_add(bytes, std::memory_order_relaxed); }
  void TellWatcher(const Block& block) {
    if (watcher_ != nullptr) watcher_->Gone(block);
  }
  // Gives back what a block that is being destroyed holds.
  void Bury(Block& block);
  void NoteTaken(uint64_t bytes);
  // Some of the next blocks that `wanted` takes, the coldest first; none after a whole round
  // without one, or after kSearch scans if `few` are expected. `seek`: worth some search for blocks
  // of tenants that pay.
  template <typename Wanted>
  std::vector<BlockRef> Sample(Arena::Cursor& cursor, size_t count, Whose whose, bool seek,
                               bool few, Wanted wanted);

  Arena& arena_;
  Tier* const tier_;
  BlockWatcher* const watcher_;
  RamShares shares_;
  std::atomic<uint32_t> tick_{1};
  std::atomic<uint64_t> taken_bytes_{0};
  std::atomic<int64_t> cached_bytes_{0};
  std::atomic<int64_t> clean_bytes_{0};
  std::atomic<int64_t> dirty_bytes_{0};
  std::atomic<int64_t> spilled_bytes_{0};
  std::atomic<uint64_t> dropped_blocks_{0};
  std::atomic<uint64_t> dropped_bytes_{0};
  std::atomic<uint64_t> forgotten_generation_{0};
  std::atomic<bool> forgetting_{false};
  std::atomic<bool> keeping_{false};

  Arena::Cursor dirty_cursor_;  // ColdDirty's
  Mutex drop_mutex_;            // outside the arena's lock
  Arena::Cursor drop_cursor_ ABSL_GUARDED_BY(drop_mutex_);

  Mutex room_mutex_;  // a leaf
  std::condition_variable_any room_;
  std::atomic<int> waiting_{0};
  uint64_t room_count_ ABSL_GUARDED_BY(room_mutex_) = 0;
};

}  // namespace passband
