// ManualClock: time that passes when a test says so.
//
// Threads  safe.
#pragma once

#include <atomic>

#include "base/clock.h"

namespace passband {

class ManualClock final : public Clock {
 public:
  explicit ManualClock(Duration since_start = std::chrono::hours(1)) : now_(since_start.count()) {}

  Time Now() const override { return Time(Duration(now_.load())); }
  void Advance(Duration by) { now_.fetch_add(by.count()); }

 private:
  std::atomic<Duration::rep> now_;
};

}  // namespace passband
