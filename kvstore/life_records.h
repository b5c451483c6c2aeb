// LifeRecords: what survives a restart of a sealed sequence's life: a TTL of its own, how much of
// a TTL was used up when the store was closed, and what was left of a pin.
//
// Told in lengths, never in times of day: the time between two runs ends nothing. What is not
// sure counts for the sequence: after a crash a TTL begins anew, and a pin lasts as long as when
// it was last recorded.
//
// Threads    safe. All but Forget wait for the disk: call none with a lock of the store held.
// Ownership  the catalog must outlive it.
// Errors     those of Catalog::Write
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "kvstore/catalog.h"
#include "kvstore/sequence.h"

namespace passband {

struct LifeRecord {
  Duration own_ttl{};  // zero: it has the store's usual one
  Duration idle{};     // when the store was closed
  Duration pin_left{};

  bool empty() const { return *this == LifeRecord(); }
  bool operator==(const LifeRecord&) const = default;
};

// Milliseconds, little-endian, behind a version.
std::string Encode(const LifeRecord& record);
// kDataLoss: damaged; kUnimplemented: of a later version.
StatusOr<LifeRecord> ParseLife(std::string_view key, std::string_view value);

class LifeRecords {
 public:
  using Sequences = std::vector<std::shared_ptr<Sequence>>;
  struct Pinned {
    std::shared_ptr<Sequence> sequence;
    Duration left{};
  };

  explicit LifeRecords(Catalog& catalog) : catalog_(catalog) {}

  // Gives the sequences what is recorded of them; records of none go. Returns those that were
  // pinned, for the caller to pin again. Once, before the other calls.
  StatusOr<std::vector<Pinned>> Load(const Sequences& sequences);
  // What is to be known of each after a crash; with `idle`, after this run's end.
  Status Write(const Sequences& sequences, bool idle = false);
  // Its record, if it has one, goes with the next Sweep.
  void Forget(SequenceId id);
  Status Sweep();

 private:
  Catalog& catalog_;
  Mutex mutex_;  // a leaf
  absl::flat_hash_set<uint64_t> recorded_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> forgotten_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace passband
