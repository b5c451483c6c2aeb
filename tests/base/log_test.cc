// Goal: a log line is one line, whatever its fields hold, in both formats.
#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace passband {
namespace {

using ::testing::HasSubstr;

TEST(LogTest, TextQuotesWhatNeedsIt) {
  ASSERT_TRUE(log::Configure("info", "text").ok());
  ::testing::internal::CaptureStderr();
  log::Info("block_spilled", {{"block", 42}, {"why", "two\nlines \"quoted\""}, {"empty", ""}});
  log::Debug("not_shown");
  const std::string line = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(line,
              HasSubstr("info block_spilled block=42 why=\"two\\u000alines \\\"quoted\\\"\""));
  EXPECT_THAT(line, HasSubstr("empty=\"\""));
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST(LogTest, JsonIsOneObjectALine) {
  ASSERT_TRUE(log::Configure("warn", "json").ok());
  ::testing::internal::CaptureStderr();
  log::Warn("fetch_failed", {{"status", Error(StatusCode::kNotFound, "sequence {} is gone", 7)}});
  const std::string line = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(line, HasSubstr("\"event\":\"fetch_failed\""));
  EXPECT_THAT(line, HasSubstr("\"status\":\"NOT_FOUND: sequence 7 is gone\"}"));
  ASSERT_TRUE(log::Configure("info", "text").ok());
}

TEST(LogTest, UnknownSettingsAreRefused) {
  EXPECT_FALSE(log::Configure("loud", "text").ok());
  EXPECT_FALSE(log::Configure("info", "xml").ok());
}

}  // namespace
}  // namespace passband
