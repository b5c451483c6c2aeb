// SequenceTable: finds a sequence by its id.
//
// Threads    safe; one mutex, held for a look-up or a piece of a listing and
//            never while a sequence is locked.
// Ownership  shares the sequences with the calls that use them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/btree_map.h"
#include "base/mutex.h"
#include "base/status.h"
#include "kvstore/sequence.h"
#include "kvstore/types.h"

namespace passband {

class SequenceTable {
 public:
  explicit SequenceTable(uint64_t max_sequences) : max_sequences_(max_sequences) {}

  // An id that no sequence had before.
  SequenceId NextId();

  // kResourceExhausted, with a retry-after, when the table is full.
  Status Insert(std::shared_ptr<Sequence> sequence);
  // kNotFound when it is unknown, or another tenant's.
  StatusOr<std::shared_ptr<Sequence>> Find(const std::string& tenant, SequenceId id) const;
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

 private:
  // The next few sequences after `after`.
  std::vector<std::shared_ptr<Sequence>> After(SequenceId after) const;

  const uint64_t max_sequences_;
  mutable Mutex mutex_;
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::btree_map<SequenceId, std::shared_ptr<Sequence>> sequences_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace passband
