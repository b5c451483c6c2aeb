// SequenceTable: finds a sequence by its id.
//
// Threads    safe; one mutex, held for a look-up or a piece of a listing and
//            never while a sequence is locked.
// Ownership  shares the sequences with the calls that use them.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/btree_map.h"
#include "base/mutex.h"
#include "base/status.h"
#include "kvstore/sequence.h"
#include "kvstore/types.h"

namespace passband {

// Where the ids of a run begin: a client that comes back with an id of an earlier run must not
// meet another sequence.
uint64_t FirstSequenceId(std::chrono::system_clock::time_point now, uint64_t random);

class SequenceTable {
 public:
  // Ids begin at `first_id`.
  SequenceTable(uint64_t max_sequences, uint64_t first_id)
      : max_sequences_(max_sequences), first_id_(first_id), last_id_(first_id - 1) {}

  // Ids up to `id`, and as many as a run may have used behind it, are not given: they were by
  // an earlier run. Before the first NextId.
  void StartAfter(uint64_t id);
  uint64_t first_id() const;

  // An id that no sequence had before.
  SequenceId NextId();

  // kResourceExhausted: with a retry-after when the table is full; the tenant has its quota of
  // sequences.
  Status Insert(std::shared_ptr<Sequence> sequence, OverQuota over = OverQuota::kRefused);
  // kNotFound when it is unknown, or another tenant's.
  StatusOr<std::shared_ptr<Sequence>> Find(const std::string& tenant, SequenceId id) const;
  // Whoever's it is; null when it is unknown.
  std::shared_ptr<Sequence> Find(SequenceId id) const;
  void Erase(SequenceId id);

  // Calls `visit` with every sequence after `after`, in id order, until it
  // returns false. Sequences that come or go meanwhile may be missed.
  template <typename Visit>
  void ForEach(SequenceId after, Visit visit) const {
    while (true) {
      const std::vector<std::shared_ptr<Sequence>> piece = After(after);
      for (const auto& sequence : piece) {
        if (!visit(*sequence)) return;
      }
      if (piece.empty()) return;
      after = piece.back()->id();
    }
  }

  std::vector<std::shared_ptr<Sequence>> All() const {
    std::vector<std::shared_ptr<Sequence>> all;
    for (SequenceId after;;) {
      const std::vector<std::shared_ptr<Sequence>> piece = After(after);
      if (piece.empty()) return all;
      all.insert(all.end(), piece.begin(), piece.end());
      after = piece.back()->id();
    }
  }

 private:
  // The next few sequences after `after`.
  std::vector<std::shared_ptr<Sequence>> After(SequenceId after) const;

  const uint64_t max_sequences_;
  mutable Mutex mutex_;
  uint64_t first_id_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_);
  absl::btree_map<SequenceId, std::shared_ptr<Sequence>> sequences_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace passband
