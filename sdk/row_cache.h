// RowCache: the rows of one (layer, kv head) of one sequence that a worker
// kept from earlier steps, least recently selected out.
//
// Each step: BeginStep, then Select for every chosen token, then Insert for
// those that were fetched. A row selected in a step stays where it is until
// the next BeginStep, so pointers handed out hold for the whole step.
//
// Units      slots of row_bytes; memory in bytes.
// Order      of rows last selected in the same step, the older token leaves
//            first.
// Threads    one at a time.
// Ownership  the rows are in a RowSlab, which outlives its caches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "sdk/page_buffer.h"

namespace passband {

// The slots of one layer's caches: one allocation, made when first used.
class RowSlab {
 public:
  RowSlab(uint32_t caches, uint32_t slots, size_t row_bytes);

  std::byte* Slots(uint32_t cache);
  uint32_t slots() const { return slots_; }
  size_t row_bytes() const { return row_bytes_; }
  size_t memory_bytes() const { return memory_.size(); }

 private:
  uint32_t caches_;
  uint32_t slots_;
  size_t row_bytes_;
  PageBuffer memory_;
};

class RowCache {
 public:
  static constexpr uint32_t kMaxSlots = std::numeric_limits<uint16_t>::max();

  // The cache numbered `index` of the slab.
  RowCache(RowSlab* slab, uint32_t index);

  void BeginStep() { ++clock_; }

  // The row of `token`, now selected in this step; null when it is not held.
  const std::byte* Select(uint32_t token) {
    if (token >= slot_of_.size()) return nullptr;
    const uint16_t slot = slot_of_[token];
    if (slot == kNone) return nullptr;
    stamps_[slot] = clock_;
    return rows_ + slot * row_bytes_;
  }

  // A slot for the row of `token`, which is not held; it counts as selected in
  // this step. Null when every slot holds a row of this step.
  std::byte* Insert(uint32_t token);

  // Forgets tokens >= `tokens`.
  void Truncate(uint64_t tokens);

  uint32_t rows() const { return used_ - static_cast<uint32_t>(free_.size()); }
  // Of the look-up tables; the rows count in the slab.
  size_t memory_bytes() const;

 private:
  static constexpr uint16_t kNone = std::numeric_limits<uint16_t>::max();

  struct Victim {
    uint64_t stamp;
    uint32_t token;
    uint16_t slot;
  };

  uint16_t TakeVictim();
  void RefillVictims();

  RowSlab* slab_;
  uint32_t index_;
  std::byte* rows_ = nullptr;
  size_t row_bytes_;
  uint64_t clock_ = 1;
  uint64_t full_at_ = 0;           // the step in which no slot could be freed
  uint32_t used_ = 0;              // slots below it were used at some time
  std::vector<uint16_t> slot_of_;  // by token
  std::vector<uint64_t> stamps_;   // by slot: the step of its last selection
  std::vector<uint32_t> tokens_;   // by slot
  std::vector<uint16_t> free_;
  // Oldest last. Stays the exact order of eviction until it is used up: rows
  // selected since it was made are newer than all of it, and are skipped.
  std::vector<Victim> victims_;
};

}  // namespace passband
