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
  return after > Duration::zero() && idle() >= after;
}

}  // namespace passband
