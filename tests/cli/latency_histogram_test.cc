// Goal: percentiles are within a hundredth of what was recorded, over all magnitudes.
#include "services/cli/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace passband {
namespace {

TEST(LatencyHistogramTest, PercentilesAreWithinOnePercent) {
  std::mt19937_64 random(1);
  std::lognormal_distribution<double> times(-9, 3);  // From nanoseconds to minutes.
  LatencyHistogram first, second;
  std::vector<double> all;
  for (int i = 0; i < 20'000; ++i) {
    all.push_back(times(random));
    (i % 2 == 0 ? first : second).Record(all.back());
  }
  first.Add(second);
  std::sort(all.begin(), all.end());
  EXPECT_EQ(first.count(), all.size());
  for (const double share : {0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const auto rank = static_cast<size_t>(std::max(1.0, std::ceil(share * 20'000))) - 1;
    EXPECT_NEAR(first.Quantile(share), all[rank], all[rank] * 0.01 + 1e-9) << share;
  }
  EXPECT_NEAR(first.max_seconds(), all.back(), 1e-9 + all.back() * 1e-9);
}

TEST(LatencyHistogramTest, OneTimeIsEveryPercentile) {
  LatencyHistogram histogram;
  EXPECT_TRUE(std::isnan(histogram.Quantile(0.5)));
  EXPECT_TRUE(std::isnan(histogram.mean_seconds()));
  histogram.Record(123e-6);
  for (const double share : {0.0, 0.5, 1.0}) {
    EXPECT_NEAR(histogram.Quantile(share), 123e-6, 1e-9);
  }
  EXPECT_NEAR(histogram.mean_seconds(), 123e-6, 1e-12);
}

TEST(LatencyHistogramTest, WhatCannotBeATimeIsKeptWithinBounds) {
  LatencyHistogram histogram;
  histogram.Record(-1);
  histogram.Record(1e300);
  EXPECT_EQ(histogram.count(), 2U);
  EXPECT_EQ(histogram.Quantile(0.5), 0);
  EXPECT_GT(histogram.Quantile(1), 1e9);
}

}  // namespace
}  // namespace passband
