// CircuitBreaker: whether calls to one server are worth trying.
//
//            `failures` in a row, or Trip()               the pause is over: BeginTrial()
//   closed ------------------------------------> open ------------------------------> half-open
//     ^                                           ^                                        |
//     |                                           +---- EndTrial(error): a longer pause ---+
//     +------------------------------- EndTrial(OK) ---------------------------------------+
//
// Pauses double up to the longest, each drawn between half of itself and itself, so that many
// clients of one server do not come back at once. One that opens again soon after it was closed
// goes on where it was.
//
// Threads    safe; Succeeded() and closed() take no lock while all is well.
// Ownership  borrows the clock.
// Errors     none of its own; Refusal() is what a call is told that is not made.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"

namespace passband {

class CircuitBreaker {
 public:
  enum class State : uint8_t { kClosed, kHalfOpen, kOpen };
  struct Options {
    uint32_t failures = 3;
    std::chrono::milliseconds first_pause{100};
    std::chrono::milliseconds longest_pause{5000};
    std::chrono::milliseconds steady_after{10'000};
  };

  // Begins open, with a trial due at once: the server was never reached.
  CircuitBreaker(const Options& options, const Clock* clock, uint64_t seed);

  bool closed() const { return state_.load(std::memory_order_acquire) == State::kClosed; }
  State state() const { return state_.load(std::memory_order_acquire); }

  // The outcome of a call that was made while it was closed. Late ones change nothing.
  void Succeeded();
  void Failed(const Status& why);
  // Opens at once: the connection is lost.
  void Trip(const Status& why);

  // True for one caller once the pause is over; that one calls EndTrial.
  bool BeginTrial();
  void EndTrial(const Status& outcome);
  // Of an open one.
  Time next_trial() const;

  // kUnavailable, with the reason and when the next trial is. `server` as people know it.
  Status Refusal(const std::string& server) const;
  // Why it is open; OK while it is closed.
  Status why() const;
  // How often it went from closed to open.
  uint64_t openings() const { return openings_.load(std::memory_order_relaxed); }
  uint64_t successes() const { return successes_.load(std::memory_order_relaxed); }

 private:
  void Open(const Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Duration DrawPause() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  const Clock* const clock_;
  std::atomic<State> state_{State::kOpen};
  std::atomic<uint32_t> in_a_row_{0};
  std::atomic<uint64_t> successes_{0};
  std::atomic<uint64_t> openings_{0};
  mutable Mutex mutex_;
  Status why_ ABSL_GUARDED_BY(mutex_);
  uint32_t level_ ABSL_GUARDED_BY(mutex_) = 0;  // pauses since it was steady
  Time next_trial_ ABSL_GUARDED_BY(mutex_);
  Time closed_at_ ABSL_GUARDED_BY(mutex_);
  uint64_t random_ ABSL_GUARDED_BY(mutex_);
};

// "closed", "half_open", "open".
const char* CircuitStateName(CircuitBreaker::State state);

}  // namespace passband
