// Goal: stop strings, lists of flags and the numbers under a generation are what
// they claim to be.
#include <gmock/gmock.h>

#include "services/worker/flags.h"
#include "services/worker/generation.h"
#include "services/worker/memory_report.h"

namespace passband {
namespace {

using ::testing::ElementsAre;

TEST(HeldBackBytes, IsTheLongestBeginningOfAStop) {
  EXPECT_EQ(HeldBackBytes("hello", {}), 0U);
  EXPECT_EQ(HeldBackBytes("hello", {"low"}), 2U);
  EXPECT_EQ(HeldBackBytes("hello", {"low", "ellow"}), 4U);
  EXPECT_EQ(HeldBackBytes("hello", {"x"}), 0U);
  EXPECT_EQ(HeldBackBytes("aab", {"aabaac"}), 3U);
  EXPECT_EQ(HeldBackBytes("", {"stop"}), 0U);
}

TEST(SplitList, DropsEmptyParts) {
  EXPECT_THAT(SplitList("a,b,,c"), ElementsAre("a", "b", "c"));
  EXPECT_THAT(SplitList(""), ElementsAre());
}

TEST(MemoryReport, IsPerDecodedToken) {
  ModelInfo model;
  model.layers = 4;
  model.kv_heads = 2;
  model.query_heads = 8;
  EngineStats stats;
  stats.steps = 40;  // 10 tokens
  stats.selected_rows = 2000;
  stats.fetched_rows = 200;
  stats.fetched_bytes = 200 * 512;
  stats.full_attention_bytes = 10000 * 512;
  MemoryReport report;
  report.AddSteps(stats, model);
  EXPECT_DOUBLE_EQ(report.decoded_tokens, 10);
  EXPECT_DOUBLE_EQ(report.fetched_per_token, 20 * 512);
  EXPECT_DOUBLE_EQ(report.unaided_per_token, 200 * 512);
  EXPECT_DOUBLE_EQ(report.saved_by_hot_rows(), 0.9);
  EXPECT_DOUBLE_EQ(report.saved_against_full(), 0.98);
}

TEST(MemoryReport, CountersAddAndSubtract) {
  EngineStats a, b;
  a.steps = 3;
  a.fetched_bytes = 100;
  b.steps = 5;
  b.fetched_bytes = 700;
  b.tail_rows = 2;
  const EngineStats between = Between(a, b);
  EXPECT_EQ(between.steps, 2U);
  EXPECT_EQ(between.fetched_bytes, 600U);
  const EngineStats sum = Sum(a, between);
  EXPECT_EQ(sum.fetched_bytes, b.fetched_bytes);
  EXPECT_EQ(sum.tail_rows, 2U);
}

TEST(FinishReason, HasNames) {
  EXPECT_STREQ(FinishReasonName(FinishReason::kStop), "stop");
  EXPECT_STREQ(FinishReasonName(FinishReason::kContext), "context");
}

}  // namespace
}  // namespace passband
