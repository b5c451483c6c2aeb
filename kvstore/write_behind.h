// WriteBehind: what was written and is not on the device yet, by column family, and the
// error that keeps it from getting there.
//
// Units    bytes, as charged: the same sum is charged when written and when flushed.
// Threads  safe; one leaf mutex.
// Errors   the error that was set; kUnavailable when the time is over.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"

namespace passband {

class WriteBehind {
 public:
  using FamilyId = uint32_t;

  void Written(FamilyId family, uint64_t bytes);
  void Flushed(FamilyId family, uint64_t bytes);
  // The family is gone, and what of it is not flushed never will be.
  void Forget(FamilyId family);

  uint64_t pending_bytes() const;
  uint64_t pending_bytes(FamilyId family) const;

  // Until no more than `bytes` are pending.
  Status AwaitPending(uint64_t bytes, Duration timeout);
  // What was written so far, by family.
  using Mark = std::map<FamilyId, uint64_t>;
  Mark Now() const;
  // Until all of it is flushed or forgotten. `timeout` starts again with every flush.
  Status AwaitFlushed(Mark mark, Duration timeout);

  void SetError(Status error);
  // RocksDB refuses writes. It tells of an error a moment before it has it, and what resumes it in
  // between is lost: so this counts as one, unless one is set.
  void NoteRefusal(const Status& error);
  // Unless more errors than `seen` were set.
  void ClearError(uint64_t seen);
  Status error() const;
  // How many were set.
  uint64_t errors() const;

 private:
  struct Family {
    uint64_t written = 0;
    uint64_t flushed = 0;
  };

  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  std::map<FamilyId, Family> families_ ABSL_GUARDED_BY(mutex_);
  uint64_t pending_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t flushes_ ABSL_GUARDED_BY(mutex_) = 0;
  Status error_ ABSL_GUARDED_BY(mutex_);
  uint64_t errors_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace passband
