// Spiller: writes blocks to the tier, and decides what a full or failing tier means.
//
// Full, and told to drop the oldest: the tier forgets a generation and the block is written
// after all; blocks of that generation that are in RAM count as never written, the others are
// lost. Full, and told to reject: columns that only the prefix index claims go, until there is
// room or none is left. Then, or when the device fails, the block stays in RAM, and no more is
// tried for a while.
//
// Units      bytes.
// Threads    safe. Waits for the tier's I/O: no lock of the store may be held.
// Ownership  home, index and pool must outlive it.
// Errors     kResourceExhausted  the tier is full
//            kUnavailable        it fails
#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "kvstore/block_home.h"
#include "kvstore/block_pool.h"
#include "kvstore/catalog.h"
#include "kvstore/prefix_index.h"
#include "kvstore/types.h"

namespace passband {

class Spiller {
 public:
  struct Stats {
    uint64_t written_blocks = 0;
    uint64_t written_bytes = 0;
    uint64_t errors = 0;
    uint64_t dropped_generations = 0;
  };

  // The home has a tier.
  // `catalog` may be null; what the tier forgets is recorded there.
  Spiller(BlockHome& home, PrefixIndex& index, BlockPool& pool, FullTierPolicy policy,
          Catalog* catalog)
      : home_(home), index_(index), pool_(pool), policy_(policy), catalog_(catalog) {}

  // A full tier: as its policy says, or nothing is forgotten for what is to be written.
  enum class WhenFull : uint8_t { kByPolicy, kRefuse };

  // Makes a frozen, resident block clean, by waiting if another thread is writing it. OK as
  // well when it is clean already, or no frozen block any more.
  Status Write(Block& block, WhenFull when_full = WhenFull::kByPolicy);
  // Bytes that are no block of the arena (yet).
  StatusOr<BlockAddress> Put(std::span<const std::byte> bytes, uint32_t planes,
                             WhenFull when_full = WhenFull::kByPolicy);
  Status Flush();

  // The tier took what it was last given, or may take more now.
  bool willing() const { return std::chrono::steady_clock::now() >= again_.load(); }
  Stats stats() const;

 private:
  // Forgets the oldest generation; not when another thread did while this one waited.
  Status DropOldest(uint64_t seen);
  void Note(const Status& status);

  BlockHome& home_;
  PrefixIndex& index_;
  BlockPool& pool_;
  const FullTierPolicy policy_;
  Catalog* const catalog_;
  Mutex drop_mutex_;  // held while the tier forgets; before no other
  std::atomic<Time> again_{Time{}};
  std::atomic<uint64_t> written_blocks_{0};
  std::atomic<uint64_t> written_bytes_{0};
  std::atomic<uint64_t> errors_{0};
  std::atomic<uint64_t> dropped_generations_{0};
};

}  // namespace passband
