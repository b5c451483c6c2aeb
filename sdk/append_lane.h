// AppendLane: in which order the appends of one (sequence, layer) are sent, and
// which are sent again.
//
// The service takes a layer's rows in token order, so when it turns one append
// away because its RAM is full, those behind it fail as well (a gap). They are not
// wrong, only early: the lane sends them again, in order, after the service's
// retry-after, one at a time until one succeeds.
//
// Units      appends, numbered from 0 in the order they were added.
// Threads    not safe; the owner's lock.
// Errors     none of its own.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "base/clock.h"
#include "base/status.h"

namespace passband {

class AppendLane {
 public:
  struct Options {
    uint32_t window = 8;      // Sent and not acknowledged.
    Duration retry_budget{};  // From an append's first refusal.
  };
  enum class Verdict { kStored, kAgain, kFailed };

  explicit AppendLane(const Options& options) : options_(options), window_(options.window) {}

  // Adds one to the end and returns its number.
  uint64_t Add();
  // The number of one to send now; it counts as sent.
  std::optional<uint64_t> Next(Time now);
  // What the service said of one that was sent.
  Verdict Answered(uint64_t number, const Status& status, Time now);

  // Whether it is sent and not answered.
  bool sent(uint64_t number) const { return entries_[number - first_].state == State::kSent; }

 private:
  enum class State : uint8_t { kWaiting, kSent, kStored };
  struct Entry {
    State state = State::kWaiting;
    std::optional<Time> refused;  // First, for want of room.
  };

  Options options_;
  std::deque<Entry> entries_;
  uint64_t first_ = 0;  // The number of entries_.front().
  uint32_t window_;
  uint32_t sent_ = 0;
  Time not_before_{};
};

}  // namespace passband
