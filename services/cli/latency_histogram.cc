#include "services/cli/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace passband {

size_t LatencyHistogram::BucketOf(uint64_t nanoseconds) {
  if (nanoseconds < kSteps) return nanoseconds;
  const int shift = std::bit_width(nanoseconds) - 1 - kStepBits;
  return static_cast<size_t>(shift) * kSteps + (nanoseconds >> shift);
}

uint64_t LatencyHistogram::TopOf(size_t bucket) {
  if (bucket < 2 * kSteps) return bucket;
  const size_t shift = bucket / kSteps - 1;
  const uint64_t step = bucket % kSteps + kSteps;
  return ((step + 1) << shift) - 1;
}

void LatencyHistogram::Record(double seconds) {
  const auto nanoseconds = static_cast<uint64_t>(std::clamp(seconds * 1e9, 0.0, 9e18));
  ++buckets_[BucketOf(nanoseconds)];
  ++count_;
  max_ = std::max(max_, nanoseconds);
  sum_ += seconds;
}

void LatencyHistogram::Add(const LatencyHistogram& other) {
  for (size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
}

double LatencyHistogram::mean_seconds() const {
  return count_ == 0 ? std::numeric_limits<double>::quiet_NaN()
                     : sum_ / static_cast<double>(count_);
}

double LatencyHistogram::Quantile(double share) const {
  if (count_ == 0) return std::numeric_limits<double>::quiet_NaN();
  const auto wanted =
      static_cast<uint64_t>(std::max(1.0, std::ceil(share * static_cast<double>(count_))));
  uint64_t below = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    below += buckets_[i];
    if (below >= wanted) return static_cast<double>(std::min(TopOf(i), max_)) * 1e-9;
  }
  return max_seconds();
}

}  // namespace passband
