// SessionBook: which session a sequence id belongs to, from its slot. A lost session leaves
// its slot behind, with what to say to those who still ask; slots are used again only after all
// others, so that an old id finds nobody else's sequence.
//
// Threads    safe; one leaf mutex.
// Ownership  shares the sessions.
// Errors     kNotFound: an id of no session, or of a lost one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/mutex.h"
#include "base/status.h"
#include "sdk/cluster/session.h"

namespace passband {

class SessionBook {
 public:
  // Gives it a slot. kResourceExhausted: all are in use.
  Status Add(const std::shared_ptr<Session>& session);
  // Its ids are kNotFound from now on.
  void Retire(const std::shared_ptr<Session>& session);

  StatusOr<std::shared_ptr<Session>> Find(SequenceId id) const;
  // Whether its slot was ever used.
  bool WasKnown(SequenceId id) const;
  // In the order of their slots.
  std::vector<std::shared_ptr<Session>> Sessions() const;
  // Of all sessions, retired ones included.
  TrafficStats traffic() const;

 private:
  struct Slot {
    std::shared_ptr<Session> session;  // null: retired
    std::string server;
  };

  mutable Mutex mutex_;
  std::vector<Slot> slots_ ABSL_GUARDED_BY(mutex_);
  uint32_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  TrafficStats retired_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace passband
