#include "kvstore/sequence_life.h"

#include <algorithm>

namespace passband {

Duration SequenceLife::idle() const {
  const Duration idle = clock_.Now().time_since_epoch() - Duration(touched_.load(kRelaxed));
  return std::max(idle, Duration::zero());
}

void SequenceLife::SetTtl(const Ttl& ttl) {
  after_.store(ttl.after.count(), kRelaxed);
  own_.store(ttl.own, kRelaxed);
}

bool SequenceLife::over() const {
  const Duration after = ttl().after;
  return after > Duration::zero() && idle() >= after && !pinned();
}

void SequenceLife::PinFor(Duration time) {
  Touch();
  pin_ends_.store(std::max<Duration::rep>((clock_.Now() + time).time_since_epoch().count(), 1),
                  kRelaxed);
}

void SequenceLife::Unpin() {
  Touch();
  pin_ends_.store(0, kRelaxed);
}

bool SequenceLife::pin_over() const {
  const Duration::rep ends = pin_ends_.load(kRelaxed);
  return ends != 0 && clock_.Now().time_since_epoch().count() >= ends;
}

Duration SequenceLife::pin_left() const {
  const Duration::rep ends = pin_ends_.load(kRelaxed);
  if (ends == 0) return Duration::zero();
  return std::max(Duration(ends) - clock_.Now().time_since_epoch(), Duration::zero());
}

}  // namespace passband
