// Reaper: calls what closes sequences that are over, now and then.
//
// Threads    one of its own, on which `reap` runs; stopped by the destructor.
#pragma once

#include <condition_variable>
#include <functional>
#include <thread>

#include "base/clock.h"
#include "base/mutex.h"

namespace passband {

class Reaper {
 public:
  Reaper(Duration interval, std::function<void()> reap);
  ~Reaper();
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;

 private:
  void Run(const std::stop_token& stop);

  const Duration interval_;
  const std::function<void()> reap_;
  Mutex mutex_;  // a leaf
  std::condition_variable_any wake_;
  std::jthread thread_;  // last: it uses the others
};

}  // namespace passband
