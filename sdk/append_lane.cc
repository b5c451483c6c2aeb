#include "sdk/append_lane.h"

#include <algorithm>
#include <chrono>

namespace passband {
namespace {

constexpr auto kDefaultRetryAfter = std::chrono::milliseconds(50);

}  // namespace

uint64_t AppendLane::Add() {
  entries_.emplace_back();
  return first_ + entries_.size() - 1;
}

std::optional<uint64_t> AppendLane::Next(Time now) {
  if (sent_ >= window_ || now < not_before_) return std::nullopt;
  const auto waiting = std::find_if(entries_.begin(), entries_.end(), [](const Entry& entry) {
    return entry.state == State::kWaiting;
  });
  if (waiting == entries_.end()) return std::nullopt;
  waiting->state = State::kSent;
  ++sent_;
  return first_ + static_cast<uint64_t>(waiting - entries_.begin());
}

AppendLane::Verdict AppendLane::Answered(uint64_t number, const Status& status, Time now) {
  Entry& entry = entries_[number - first_];
  --sent_;
  if (status.ok()) {
    entry.state = State::kStored;
    window_ = options_.window;
    while (!entries_.empty() && entries_.front().state == State::kStored) {
      entries_.pop_front();
      ++first_;
    }
    return Verdict::kStored;
  }
  const bool no_room = status.code() == StatusCode::kResourceExhausted;
  const bool early = number != first_ && (status.code() == StatusCode::kFailedPrecondition ||
                                          status.code() == StatusCode::kAborted);
  if (!no_room && !early) return Verdict::kFailed;
  if (no_room) {
    const Duration after = RetryAfter(status).value_or(kDefaultRetryAfter);
    if (!entry.refused.has_value()) entry.refused = now;
    if (now + after - *entry.refused > options_.retry_budget) return Verdict::kFailed;
    not_before_ = std::max(not_before_, now + after);
  }
  entry.state = State::kWaiting;
  window_ = 1;
  return Verdict::kAgain;
}

}  // namespace passband
