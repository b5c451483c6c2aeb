// LatencyHistogram: how long things took, in fixed memory: what it says of a time is within 1 %.
//
// Units    seconds outside, nanoseconds inside.
// Threads  one at a time; merge those of several threads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace passband {

class LatencyHistogram {
 public:
  void Record(double seconds);
  void Add(const LatencyHistogram& other);

  uint64_t count() const { return count_; }
  double mean_seconds() const;
  double max_seconds() const { return static_cast<double>(max_) * 1e-9; }
  // The time that `share` of them (0 to 1) did not exceed; NaN when there is none.
  double Quantile(double share) const;

 private:
  // Exact below 2 * kSteps ns; above, kSteps buckets for each power of two.
  static constexpr int kStepBits = 7;
  static constexpr uint64_t kSteps = uint64_t{1} << kStepBits;
  static constexpr size_t kBuckets = (64 - kStepBits) * kSteps + kSteps;

  static size_t BucketOf(uint64_t nanoseconds);
  // The longest time of a bucket.
  static uint64_t TopOf(size_t bucket);

  std::array<uint64_t, kBuckets> buckets_{};
  uint64_t count_ = 0;
  uint64_t max_ = 0;
  double sum_ = 0;
};

}  // namespace passband
