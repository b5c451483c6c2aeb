// Goal: an error keeps its code, its text and its retry-after on its way up.
#include "base/status.h"

#include <gtest/gtest.h>

namespace passband {
namespace {

StatusOr<int> Half(int value) {
  if (value % 2 != 0) return Error(StatusCode::kInvalidArgument, "{} is odd", value);
  return value / 2;
}

StatusOr<int> Quarter(int value) {
  PASSBAND_ASSIGN_OR_RETURN(const int half, Half(value));
  PASSBAND_ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}

Status CheckHalf(int value) {
  PASSBAND_RETURN_IF_ERROR(Half(value).status());
  return OkStatus();
}

TEST(StatusTest, MacrosPassValuesAndErrors) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(Message(Quarter(6).status()), "3 is odd");
  EXPECT_TRUE(CheckHalf(2).ok());
  EXPECT_EQ(CheckHalf(3).code(), StatusCode::kInvalidArgument);
}

TEST(StatusTest, AnnotateKeepsCodeAndRetryAfter) {
  const Status full = WithRetryAfter(Error(StatusCode::kResourceExhausted, "no block is free"),
                                     std::chrono::milliseconds(250));
  const Status annotated = Annotate(full, "append to sequence 3");
  EXPECT_EQ(annotated.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(Message(annotated), "append to sequence 3: no block is free");
  EXPECT_EQ(RetryAfter(annotated), std::chrono::milliseconds(250));
  EXPECT_EQ(RetryAfter(OkStatus()), std::nullopt);
  EXPECT_TRUE(Annotate(OkStatus(), "x").ok());
}

TEST(StatusDeathTest, ABrokenPromiseStopsTheProcess) {
  EXPECT_DEATH(PASSBAND_CHECK(1 + 1 == 3), "check_failed");
}

}  // namespace
}  // namespace passband
