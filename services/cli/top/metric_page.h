// MetricPage: a page of metrics in Prometheus's text format, parsed. Whoever answers at an HTTP
// port wrote it: every line is checked, and a page has an end.
//
// Units      as the metrics have them.
// Threads    a plain value; const methods are safe.
// Ownership  keeps copies.
// Errors     kInvalidArgument: the line that is none, or too much of them.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace passband::top {

// Counts by upper bound, as a histogram's buckets have them, not cumulative; the last bound is
// infinite.
struct MetricHistogram {
  std::vector<double> bounds;
  std::vector<double> counts;

  double total() const;
  // What came since `before`; everything where that has other bounds or counted more.
  MetricHistogram Since(const MetricHistogram& before) const;
  // Within its bucket reckoned as if evenly spread; the highest finite bound for what lies above
  // it. `share` from 0 to 1. NaN when nothing was counted.
  double Quantile(double share) const;
};

class MetricPage {
 public:
  using Labels = std::map<std::string, std::string>;
  struct Sample {
    Labels labels;
    double value = 0;
  };
  static constexpr size_t kMaxBytes = size_t{16} << 20;
  static constexpr size_t kMaxSamples = 200'000;

  static StatusOr<MetricPage> Parse(std::string_view text);

  bool Has(const std::string& name) const { return samples_.contains(name); }
  // In the page's order; none when it has no such metric.
  std::span<const Sample> of(const std::string& name) const;
  // Over all samples that carry these labels; 0 when there is none.
  double Sum(const std::string& name, const Labels& labels = {}) const;
  // Merged over all series that carry these labels; without bounds when there is none.
  MetricHistogram Histogram(const std::string& name, const Labels& labels = {}) const;
  // The values that a label has anywhere in a metric, sorted.
  std::vector<std::string> LabelValues(const std::string& name, const std::string& label) const;

 private:
  std::map<std::string, std::vector<Sample>> samples_;
};

}  // namespace passband::top
