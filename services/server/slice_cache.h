// SliceCache: encoded slices of whole blocks, by profile, so that an attach moves them without
// reading a row: neither encoding again nor bringing back what left RAM.
//
// A block's slices are kept while the block lives and stays as it is: the store tells when it
// dies or is about to be written on. The least recently used go first.
//
// Units      bytes; what the cache's own lists take is counted, too.
// Threads    safe; a leaf mutex for each part of the blocks.
// Ownership  outlives the store that it watches. What is found stays valid while it is held.
#pragma once

#include <array>
#include <atomic>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "kvstore/block.h"
#include "kvstore/block_watcher.h"

namespace passband::server {

class SliceCache final : public BlockWatcher {
 public:
  // [kv_head][64 tokens] of one block.
  using Slices = std::vector<std::byte>;
  // How they were encoded.
  struct Recipe {
    uint64_t profile = 0;  // as the profile table numbers them
    uint32_t layer = 0;
    auto operator<=>(const Recipe&) const = default;
  };
  struct Stats {
    uint64_t capacity_bytes = 0;
    uint64_t bytes = 0;
    uint64_t hits = 0;  // blocks
    uint64_t misses = 0;
    uint64_t evictions = 0;
  };

  // 0: nothing is kept.
  explicit SliceCache(uint64_t capacity_bytes) : part_capacity_(capacity_bytes / kParts) {}

  // Null when there are none. The caller pins the block, or keeps it from being written on.
  std::shared_ptr<const Slices> Find(const Block& block, const Recipe& recipe);
  // The caller pins the block, which is frozen: `slices` are of all of its rows.
  void Insert(Block& block, const Recipe& recipe, Slices slices);
  void Gone(const Block& block) override;

  Stats stats() const;

 private:
  static constexpr size_t kParts = 16;

  struct Entry {
    const Block* block;
    Recipe recipe;
    std::shared_ptr<const Slices> slices;
  };
  using Entries = std::list<Entry>;
  struct alignas(64) Part {
    mutable Mutex mutex;
    Entries entries ABSL_GUARDED_BY(mutex);  // the most recently used first
    absl::flat_hash_map<const Block*, std::vector<Entries::iterator>> of ABSL_GUARDED_BY(mutex);
    uint64_t bytes ABSL_GUARDED_BY(mutex) = 0;
    uint64_t hits ABSL_GUARDED_BY(mutex) = 0;
    uint64_t misses ABSL_GUARDED_BY(mutex) = 0;
    uint64_t evictions ABSL_GUARDED_BY(mutex) = 0;
  };

  static uint64_t Cost(const Slices& slices);
  Part& PartOf(const Block& block);
  static void RemoveLast(Part& part) ABSL_EXCLUSIVE_LOCKS_REQUIRED(part.mutex);

  const uint64_t part_capacity_;
  std::array<Part, kParts> parts_;
};

}  // namespace passband::server
