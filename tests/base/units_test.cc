// Goal: sizes and durations read as people write them, and nothing else does.
#include "base/units.h"

#include <gtest/gtest.h>

namespace passband {
namespace {

TEST(UnitsTest, BytesAreParsed) {
  EXPECT_EQ(*ParseBytes("0"), 0U);
  EXPECT_EQ(*ParseBytes("4096"), 4096U);
  EXPECT_EQ(*ParseBytes("9007199254740993"), 9007199254740993U);  // no double has it
  EXPECT_EQ(*ParseBytes("64KiB"), 64 * kKiB);
  EXPECT_EQ(*ParseBytes(" 1.5 GiB "), kGiB + kGiB / 2);
  EXPECT_EQ(*ParseBytes("2GB"), 2'000'000'000U);
  EXPECT_EQ(*ParseBytes("8Gi"), 8 * kGiB);
}

TEST(UnitsTest, OtherTextIsNoSize) {
  for (const char* text :
       {"", "GiB", "-1", "4 apples", "1e30", "nan", "inf", "1GiB2", "99999999TiB"}) {
    EXPECT_EQ(ParseBytes(text).status().code(), StatusCode::kInvalidArgument) << text;
  }
}

TEST(UnitsTest, DurationsNeedAUnit) {
  EXPECT_EQ(*ParseDuration("250us"), std::chrono::microseconds(250));
  EXPECT_EQ(*ParseDuration("1.5s"), std::chrono::milliseconds(1500));
  EXPECT_EQ(*ParseDuration("2h"), std::chrono::hours(2));
  for (const char* text : {"", "5", "-1s", "1d", "s"}) {
    EXPECT_EQ(ParseDuration(text).status().code(), StatusCode::kInvalidArgument) << text;
  }
}

TEST(UnitsTest, FormatsReadWell) {
  EXPECT_EQ(FormatBytes(812), "812 B");
  EXPECT_EQ(FormatBytes(1536), "1.50 KiB");
  EXPECT_EQ(FormatBytes(3.0 * 1024 * 1024 * 1024), "3.00 GiB");
  EXPECT_EQ(FormatSeconds(1.5e-4), "150.0 us");
  EXPECT_EQ(FormatSeconds(2.5), "2.50 s");
  EXPECT_EQ(FormatSpan(4.6), "5 s");
  EXPECT_EQ(FormatSpan(200), "3 min 20 s");
  EXPECT_EQ(FormatSpan(7500), "2 h 5 min");
  EXPECT_EQ(FormatSpan(100'000), "1 d 3 h");
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1234567), "1,234,567");
}

}  // namespace
}  // namespace passband
