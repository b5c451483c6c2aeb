// MetricFamilies: builds an exposition, family by family.
//
//   families.Counter("passband_x_total", "What x is").Value(1).Value({{"kind", "a"}}, 2);
//
// Threads  for one thread.
#pragma once

#include <prometheus/metric_family.h>

#include <initializer_list>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "services/server/counters.h"

namespace passband::server {

class MetricFamilies {
 public:
  using Labels = std::initializer_list<std::pair<const char*, std::string>>;

  // Starts a family; the values that follow are its own. One without values is left out.
  MetricFamilies& Counter(const char* name, const char* help);
  MetricFamilies& Gauge(const char* name, const char* help);
  MetricFamilies& Histogram(const char* name, const char* help);

  MetricFamilies& Value(double value) { return Value({}, value); }
  MetricFamilies& Value(Labels labels, double value);
  // The sum of several histograms.
  MetricFamilies& Value(Labels labels, const std::vector<const SecondsHistogram*>& parts);
  // One more count than upper bounds; not cumulative.
  MetricFamilies& Value(std::span<const double> bounds, std::span<const uint64_t> counts,
                        double sum);

  std::vector<prometheus::MetricFamily> Take();

 private:
  MetricFamilies& Start(const char* name, const char* help, prometheus::MetricType type);
  prometheus::ClientMetric& Add(Labels labels);

  std::vector<prometheus::MetricFamily> families_;
};

}  // namespace passband::server
