// Arena: the service's RAM, one mapping cut into slots for blocks.
//
// Models differ in the size of their blocks, so the mapping is cut into slabs:
// a slab serves one block size from the first slot taken to the last one given
// back, then any size again. Slabs that were full longest are used first, so
// that thin ones empty.
//
// Units      bytes. Slots begin on a multiple of 64.
// Threads    safe; one leaf mutex (nothing is locked while it is held).
// Ownership  owns the mapping; every slot is to be given back before it goes (checked).
// Errors     kInvalidArgument, kResourceExhausted: see Create.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "kvstore/mapping.h"

namespace passband {

class Block;

class Arena {
 public:
  struct Options {
    uint64_t bytes = 0;  // 64 KiB at least
    bool huge_pages = true;
    bool pre_touch = true;       // all of it is there before Create returns
    bool lock = false;           // mlock
    uint32_t touch_threads = 0;  // 0: one a core, 16 at most
    uint64_t slab_bytes = 0;     // a power of two; 0: a 16th of bytes, 8 MiB at most
  };

  // kInvalidArgument when `bytes` is too small, kResourceExhausted (naming what
  // was asked for and what is available) when the machine cannot give it.
  static StatusOr<std::unique_ptr<Arena>> Create(const Options& options);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // A slot of `bytes` (a multiple of 64, max_block_bytes() at most) with arbitrary content;
  // null when there is none. `owner` is whom Scan shows.
  std::byte* Allocate(uint64_t bytes, Block* owner);
  void Free(std::byte* slot);

  // Where a walk over the slots stands.
  struct Cursor {
    uint32_t slab = 0;
    uint32_t slot = 0;
    uint64_t laps = 0;
  };
  // Shows the owners of the next slots, `count` or fewer, to `visit`, which must take no lock.
  // No owner gives its slot back meanwhile.
  template <typename Visit>
  void Scan(Cursor& cursor, uint64_t count, Visit visit) {
    MutexLock lock(mutex_);
    for (; count > 0; --count) {
      Slab& slab = slabs_[cursor.slab];
      if (slab.used == 0 || cursor.slot >= slab.slots) {
        cursor.slot = 0;
        if (++cursor.slab < slab_count_) continue;
        cursor.slab = 0;
        ++cursor.laps;
        return;
      }
      if (Block* const owner = slab.entries[cursor.slot++].owner) visit(*owner);
    }
  }

  std::byte* data() const { return mapping_->data(); }
  uint64_t bytes() const { return uint64_t{slab_count_} * slab_bytes_; }
  int fd() const { return mapping_->fd(); }
  uint64_t huge_page_bytes() const { return mapping_->huge_page_bytes(); }
  uint64_t max_block_bytes() const { return slab_bytes_; }
  uint64_t used_bytes() const { return used_bytes_.load(std::memory_order_relaxed); }

 private:
  static constexpr uint32_t kNone = ~uint32_t{0};

  struct Entry {
    Block* owner = nullptr;  // null: free
    uint32_t next_free = kNone;
  };
  struct Slab {
    uint64_t block_bytes = 0;  // the size its slots were last cut to
    uint32_t slots = 0;
    uint32_t used = 0;
    uint32_t first_free = kNone;  // slot
    uint32_t previous = kNone;    // slab, in the list it is in
    uint32_t next = kNone;
    std::unique_ptr<Entry[]> entries;
  };
  // Slabs of one block size that have both used and free slots.
  struct SizeClass {
    uint64_t block_bytes = 0;
    uint32_t first = kNone;
  };

  Arena(std::unique_ptr<Mapping> mapping, uint64_t slab_bytes);

  SizeClass& ClassOf(uint64_t block_bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Cut(uint32_t slab, uint64_t block_bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Link(uint32_t& first, uint32_t slab) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Unlink(uint32_t& first, uint32_t slab) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::unique_ptr<Mapping> mapping_;
  const uint64_t slab_bytes_;
  const uint32_t slab_count_;
  std::atomic<uint64_t> used_bytes_{0};
  Mutex mutex_;
  std::vector<Slab> slabs_ ABSL_GUARDED_BY(mutex_);
  uint32_t first_empty_ ABSL_GUARDED_BY(mutex_) = kNone;
  std::vector<SizeClass> classes_ ABSL_GUARDED_BY(mutex_);  // as many as block sizes: few
};

}  // namespace passband
