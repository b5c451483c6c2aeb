// GenerationTable: which generations of the spill database there are, and which of their
// blocks anybody still wants. Numbers within a generation count from 0 without a gap.
//
//   active (written to) -> full -> doomed (nobody wants a block of it) -> taken
//
// Threads    safe; one leaf mutex; no I/O.
// Ownership  shares column families; the last reader of a taken one lets it go.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "kvstore/tier.h"

namespace rocksdb {
class ColumnFamilyHandle;
}

namespace passband {

class GenerationTable {
 public:
  using Family = std::shared_ptr<rocksdb::ColumnFamilyHandle>;
  struct Taken {
    uint64_t generation = 0;
    Family family;
  };
  struct Active {
    BlockAddress next;
    Family family;
    uint64_t bytes = 0;
    Time begun;
  };
  struct Counts {
    uint64_t blocks = 0;
    uint64_t generations = 0;  // the doomed left out
  };

  // A full generation of an earlier run; none of its blocks is wanted until claimed.
  // `end`: one more than its greatest number.
  void Adopt(uint64_t generation, Family family, uint64_t end);
  // A new active generation; there is none.
  void Begin(uint64_t generation, Family family, Time now);
  std::optional<Active> active() const;
  // The active generation has one more block, active()->next.
  void Add(uint64_t bytes);
  // The active generation is full from now on.
  void Close();

  // Null when the block is not here, or not wanted.
  Family Find(const BlockAddress& address) const;
  void Claim(const BlockAddress& address);
  // Whether it is within a generation that is here, wanted or not.
  bool Covers(const BlockAddress& address) const;
  // True: its generation is doomed now.
  bool Drop(const BlockAddress& address);
  // Dooms every full generation without a block that is wanted.
  void DoomUnclaimed();

  std::optional<Taken> TakeOldestFull();
  std::optional<Taken> TakeDoomed();
  // One that could not be got rid of.
  void GiveBack(Taken taken);
  bool any_doomed() const;
  uint64_t latest() const;  // greatest number ever seen

  std::vector<Family> Families() const;
  Counts Count() const;

 private:
  struct Generation {
    Family family;
    std::vector<bool> live;  // by number
    uint64_t live_blocks = 0;
    uint64_t bytes = 0;
    Time begun;
  };
  using Generations = std::map<uint64_t, Generation>;

  void DoomLocked(Generations::iterator generation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  Generations generations_ ABSL_GUARDED_BY(mutex_);
  uint64_t active_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: none
  uint64_t latest_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t blocks_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Taken> doomed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace passband
