// ServerHealth: what is known of one server, by whoever calls it and by the thread that keeps
// its connection (peer.h): the circuit, and counts for people.
//
// Threads    safe.
// Ownership  shared: answers on their way outlive the service they came from.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <stop_token>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/random.h"
#include "sdk/cluster/circuit_breaker.h"

namespace passband {

class ServerHealth {
 public:
  ServerHealth(std::string address, const CircuitBreaker::Options& options, const Clock* clock)
      : breaker(options, clock, RandomU64()), address_(std::move(address)) {}

  const std::string& address() const { return address_; }

  // The keeper looks again, now.
  void Wake() {
    MutexLock lock(mutex_);
    woken_ = true;
    wakes_.notify_all();
  }
  // Until woken, stopped, or `until` at the latest.
  void Rest(const std::stop_token& stop, Time until) {
    std::unique_lock lock(mutex_);
    wakes_.wait_until(lock, stop, until, [this] { return woken_; });
    woken_ = false;
  }

  CircuitBreaker breaker;
  std::atomic<uint64_t> connections{0};
  std::atomic<uint64_t> lost_connections{0};
  std::atomic<uint64_t> opened_first{0};  // sequences that belong here
  std::atomic<uint64_t> opened_later{0};  // whose server before this one took none

 private:
  const std::string address_;
  Mutex mutex_;
  std::condition_variable_any wakes_;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace passband
