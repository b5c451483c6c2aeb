// SequenceLife: when a sequence was used last, and how long it may stay unused.
//
// A sequence that nobody used for its TTL is over: the store closes it. Asking about it (Stat,
// List, Lookup) is no use. One that is pinned is not over, and begins its TTL anew when the pin
// ends. The clock is a steady one: setting the machine's time ends nothing.
//
// Threads    safe: relaxed atomics. Whoever closes a sequence that is over looks again under its
//            lock, which every use takes after Touch.
// Ownership  the clock must outlive it.
#pragma once

#include <atomic>

#include "base/clock.h"

namespace passband {

// Longer ones are refused: they would be none.
inline constexpr Duration kMaxTtl = std::chrono::hours(24 * 366);
// Of pins: what is asked for without a time, and the longest.
inline constexpr Duration kUsualPin = std::chrono::hours(1);
inline constexpr Duration kMaxPin = std::chrono::hours(24 * 30);

struct Ttl {
  Duration after{};  // zero: never
  bool own = false;  // asked for with this sequence; otherwise the store's usual one
};

class SequenceLife {
 public:
  SequenceLife(const Clock& clock, const Ttl& ttl) : clock_(clock) {
    SetTtl(ttl);
    Touch();
  }

  void Touch() { touched_.store(clock_.Now().time_since_epoch().count(), kRelaxed); }
  Duration idle() const;
  void SetIdle(Duration idle) {
    touched_.store((clock_.Now() - idle).time_since_epoch().count(), kRelaxed);
  }

  void SetTtl(const Ttl& ttl);
  Ttl ttl() const { return {Duration(after_.load(kRelaxed)), own_.load(kRelaxed)}; }
  bool over() const;

  void PinFor(Duration time);
  void Unpin();
  // Until its time is over, and after that until Unpin.
  bool pinned() const { return pin_ends_.load(kRelaxed) != 0; }
  bool pin_over() const;
  Duration pin_left() const;  // zero: none

 private:
  static constexpr auto kRelaxed = std::memory_order_relaxed;

  const Clock& clock_;
  std::atomic<Duration::rep> touched_{0};
  std::atomic<Duration::rep> after_{0};
  std::atomic<bool> own_{false};
  std::atomic<Duration::rep> pin_ends_{0};  // 0: it is not pinned
};

}  // namespace passband
