#include "services/server/metric_families.h"

#include <limits>

namespace passband::server {

using prometheus::MetricType;

MetricFamilies& MetricFamilies::Counter(const char* name, const char* help) {
  return Start(name, help, MetricType::Counter);
}

MetricFamilies& MetricFamilies::Gauge(const char* name, const char* help) {
  return Start(name, help, MetricType::Gauge);
}

MetricFamilies& MetricFamilies::Histogram(const char* name, const char* help) {
  return Start(name, help, MetricType::Histogram);
}

MetricFamilies& MetricFamilies::Start(const char* name, const char* help, MetricType type) {
  families_.push_back({.name = name, .help = help, .type = type, .metric = {}});
  return *this;
}

prometheus::ClientMetric& MetricFamilies::Add(Labels labels) {
  prometheus::ClientMetric& metric = families_.back().metric.emplace_back();
  for (const auto& [name, value] : labels) metric.label.push_back({name, value});
  return metric;
}

MetricFamilies& MetricFamilies::Value(Labels labels, double value) {
  prometheus::ClientMetric& metric = Add(labels);
  if (families_.back().type == MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  return *this;
}

MetricFamilies& MetricFamilies::Value(Labels labels,
                                      const std::vector<const SecondsHistogram*>& parts) {
  prometheus::ClientMetric::Histogram& out = Add(labels).histogram;
  uint64_t cumulative = 0;
  for (size_t i = 0; i <= kSecondsBuckets.size(); ++i) {
    for (const SecondsHistogram* part : parts) cumulative += part->buckets[i].value();
    const double bound =
        i < kSecondsBuckets.size() ? kSecondsBuckets[i] : std::numeric_limits<double>::infinity();
    out.bucket.push_back({.cumulative_count = cumulative, .upper_bound = bound});
  }
  out.sample_count = cumulative;
  for (const SecondsHistogram* part : parts) {
    out.sample_sum += static_cast<double>(part->sum_nanoseconds.value()) * 1e-9;
  }
  return *this;
}

MetricFamilies& MetricFamilies::Value(std::span<const double> bounds,
                                      std::span<const uint64_t> counts, double sum) {
  prometheus::ClientMetric::Histogram& out = Add({}).histogram;
  uint64_t cumulative = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    cumulative += counts[i];
    const double bound = i < bounds.size() ? bounds[i] : std::numeric_limits<double>::infinity();
    out.bucket.push_back({.cumulative_count = cumulative, .upper_bound = bound});
  }
  out.sample_count = cumulative;
  out.sample_sum = sum;
  return *this;
}

std::vector<prometheus::MetricFamily> MetricFamilies::Take() {
  std::erase_if(families_, [](const auto& family) { return family.metric.empty(); });
  return std::exchange(families_, {});
}

}  // namespace passband::server
