// Lifecycle: where the server is between its start and its end.
//
//     starting -> ready -> draining
//
// Threads  safe.
#pragma once

#include <atomic>
#include <functional>
#include <utility>

#include "base/clock.h"

namespace passband::server {

class Lifecycle {
 public:
  // `on_draining` runs once, on the thread that begins it.
  explicit Lifecycle(std::function<void()> on_draining) : on_draining_(std::move(on_draining)) {}

  void SetReady() { ready_.store(true); }
  void BeginDraining() {
    if (!draining_.exchange(true)) on_draining_();
  }

  // Whether new workers should come.
  bool ready() const { return ready_.load() && !draining_.load(); }
  bool draining() const { return draining_.load(); }
  double uptime_seconds() const { return Seconds(std::chrono::steady_clock::now() - started_); }

 private:
  const std::function<void()> on_draining_;
  const Time started_ = std::chrono::steady_clock::now();
  std::atomic<bool> ready_{false};
  std::atomic<bool> draining_{false};
};

}  // namespace passband::server
