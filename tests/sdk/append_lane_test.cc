// Goal: whatever a service turns away for want of room, a lane's appends arrive in
// order, each once, and a failure that is nobody else's fault ends the lane.

#include "sdk/append_lane.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>

#include "base/random.h"

namespace passband {
namespace {

using Verdict = AppendLane::Verdict;
using std::chrono::milliseconds;

constexpr Time kStart{};

Status Full(int after_ms) {
  return WithRetryAfter(Error(StatusCode::kResourceExhausted, "full"), milliseconds(after_ms));
}
Status Gap() { return Error(StatusCode::kFailedPrecondition, "a gap"); }

AppendLane Lane(uint32_t window = 4) {
  return AppendLane({.window = window, .retry_budget = milliseconds(1000)});
}

TEST(AppendLane, SendsAsManyAsTheWindowHolds) {
  AppendLane lane = Lane(2);
  for (uint64_t i = 0; i < 3; ++i) EXPECT_EQ(lane.Add(), i);
  EXPECT_EQ(lane.Next(kStart), 0u);
  EXPECT_EQ(lane.Next(kStart), 1u);
  EXPECT_EQ(lane.Next(kStart), std::nullopt);
  EXPECT_EQ(lane.Answered(1, OkStatus(), kStart), Verdict::kStored);
  EXPECT_EQ(lane.Next(kStart), 2u);
}

TEST(AppendLane, WaitsAsLongAsTheServiceSaysAndThenSendsOne) {
  AppendLane lane = Lane();
  lane.Add();
  lane.Add();
  lane.Next(kStart);
  lane.Next(kStart);
  EXPECT_EQ(lane.Answered(0, Full(50), kStart), Verdict::kAgain);
  EXPECT_EQ(lane.Answered(1, Gap(), kStart), Verdict::kAgain);
  EXPECT_EQ(lane.Next(kStart + milliseconds(49)), std::nullopt);
  EXPECT_EQ(lane.Next(kStart + milliseconds(50)), 0u);
  EXPECT_EQ(lane.Next(kStart + milliseconds(50)), std::nullopt) << "one at a time";
  EXPECT_EQ(lane.Answered(0, OkStatus(), kStart + milliseconds(51)), Verdict::kStored);
  EXPECT_EQ(lane.Next(kStart + milliseconds(51)), 1u);
}

TEST(AppendLane, AGapThatIsItsOwnFaultFails) {
  AppendLane lane = Lane();
  lane.Add();
  lane.Next(kStart);
  EXPECT_EQ(lane.Answered(0, Gap(), kStart), Verdict::kFailed);
}

TEST(AppendLane, AnyOtherErrorFails) {
  AppendLane lane = Lane();
  lane.Add();
  lane.Add();
  lane.Next(kStart);
  lane.Next(kStart);
  EXPECT_EQ(lane.Answered(1, Error(StatusCode::kDataLoss, "no"), kStart), Verdict::kFailed);
}

TEST(AppendLane, GivesUpWhenTheBudgetIsSpent) {
  AppendLane lane = Lane();
  lane.Add();
  Time now = kStart;
  int tries = 0;
  Verdict verdict = Verdict::kAgain;
  while (verdict == Verdict::kAgain) {
    ASSERT_TRUE(lane.Next(now).has_value());
    verdict = lane.Answered(0, Full(300), now);
    now += milliseconds(300);
    ++tries;
  }
  EXPECT_EQ(verdict, Verdict::kFailed);
  EXPECT_EQ(tries, 4) << "at 0, 300, 600 and 900 ms";
}

// A service as the store is: it takes what comes next and nothing else, when it has
// room.
TEST(AppendLane, EveryAppendIsStoredOnceAndInOrder) {
  const uint64_t seed = RandomU64();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    AppendLane lane(
        {.window = 1 + static_cast<uint32_t>(random() % 6), .retry_budget = std::chrono::hours(1)});
    const uint64_t count = 1 + random() % 40;
    uint64_t added = 0, stored = 0, answered = 0;
    std::deque<std::pair<uint64_t, Status>> answers;
    Time now = kStart;
    while (answered < count) {
      if (added < count && random() % 2 == 0) {
        ASSERT_EQ(lane.Add(), added++);
      }
      while (const auto next = lane.Next(now)) {
        const bool has_room = random() % 4 != 0;
        if (*next != stored) {
          answers.emplace_back(*next, Gap());
        } else if (!has_room) {
          answers.emplace_back(*next, Full(1 + static_cast<int>(random() % 20)));
        } else {
          answers.emplace_back(*next, OkStatus());
          ++stored;
        }
        if (random() % 2 == 0) break;
      }
      if (!answers.empty() && random() % 2 == 0) {
        const auto [number, status] = answers.front();
        answers.pop_front();
        const Verdict verdict = lane.Answered(number, status, now);
        ASSERT_NE(verdict, Verdict::kFailed) << number << " " << status;
        if (verdict == Verdict::kStored) {
          ASSERT_EQ(number, answered++);
        }
      }
      now += milliseconds(1);
    }
    EXPECT_EQ(stored, count);
  }
}

}  // namespace
}  // namespace passband
