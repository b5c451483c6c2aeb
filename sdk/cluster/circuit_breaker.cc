#include "sdk/cluster/circuit_breaker.h"

#include <algorithm>

#include "base/units.h"

namespace passband {

CircuitBreaker::CircuitBreaker(const Options& options, const Clock* clock, uint64_t seed)
    : options_(options),
      clock_(clock),
      why_(Error(StatusCode::kUnavailable, "not connected yet")),
      next_trial_(clock->Now()),
      random_(seed) {}

void CircuitBreaker::Succeeded() {
  successes_.fetch_add(1, std::memory_order_relaxed);
  if (in_a_row_.load(std::memory_order_relaxed) == 0) return;
  MutexLock lock(mutex_);
  if (closed()) in_a_row_ = 0;
}

void CircuitBreaker::Failed(const Status& why) {
  MutexLock lock(mutex_);
  if (closed() && ++in_a_row_ >= options_.failures) Open(why);
}

void CircuitBreaker::Trip(const Status& why) {
  MutexLock lock(mutex_);
  if (closed()) Open(why);
}

void CircuitBreaker::Open(const Status& why) {
  if (clock_->Now() - closed_at_ >= options_.steady_after) level_ = 0;
  why_ = why;
  in_a_row_ = 0;
  next_trial_ = clock_->Now() + DrawPause();
  openings_.fetch_add(1, std::memory_order_relaxed);
  state_.store(State::kOpen, std::memory_order_release);
}

// The doubled pause, between half of it and all of it.
Duration CircuitBreaker::DrawPause() {
  constexpr uint32_t kDoublings = 30;
  const uint64_t factor = uint64_t{1} << std::min(level_++, kDoublings);
  const auto whole = std::min<Duration>(options_.longest_pause, options_.first_pause * factor);
  random_ = random_ * 6364136223846793005u + 1442695040888963407u;
  const double share = static_cast<double>(random_ >> 40) / static_cast<double>(1 << 24);
  return std::chrono::duration_cast<Duration>(whole * (0.5 + 0.5 * share));
}

bool CircuitBreaker::BeginTrial() {
  MutexLock lock(mutex_);
  if (state() != State::kOpen || clock_->Now() < next_trial_) return false;
  state_.store(State::kHalfOpen, std::memory_order_release);
  return true;
}

void CircuitBreaker::EndTrial(const Status& outcome) {
  MutexLock lock(mutex_);
  if (state() != State::kHalfOpen) return;
  why_ = outcome;
  if (outcome.ok()) {
    closed_at_ = clock_->Now();
    state_.store(State::kClosed, std::memory_order_release);
    return;
  }
  next_trial_ = clock_->Now() + DrawPause();
  state_.store(State::kOpen, std::memory_order_release);
}

Time CircuitBreaker::next_trial() const {
  MutexLock lock(mutex_);
  return next_trial_;
}

Status CircuitBreaker::why() const {
  MutexLock lock(mutex_);
  return closed() ? OkStatus() : why_;
}

Status CircuitBreaker::Refusal(const std::string& server) const {
  MutexLock lock(mutex_);
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(
      std::max(next_trial_ - clock_->Now(), Duration::zero()));
  return WithRetryAfter(Error(StatusCode::kUnavailable,
                              "passband-server at {} is not asked now: {}; it is tried again in {}",
                              server, Message(why_), FormatSeconds(Seconds(left))),
                        left);
}

const char* CircuitStateName(CircuitBreaker::State state) {
  switch (state) {
    case CircuitBreaker::State::kClosed:
      return "closed";
    case CircuitBreaker::State::kHalfOpen:
      return "half_open";
    case CircuitBreaker::State::kOpen:
      return "open";
  }
  return "";
}

}  // namespace passband
