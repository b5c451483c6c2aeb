// Goal: a server that fails is left alone for growing, jittered pauses, asked by one caller
// after each, and used again once it answers.

#include "sdk/cluster/circuit_breaker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <vector>

#include "base/random.h"
#include "base/thread.h"

namespace passband::test {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using State = CircuitBreaker::State;

class FakeClock final : public Clock {
 public:
  Time Now() const override { return now_; }
  void Advance(Duration by) { now_ += by; }

 private:
  Time now_{std::chrono::hours(1)};
};

const Status kDown = Error(StatusCode::kUnavailable, "cannot reach it");

class CircuitBreakerTest : public ::testing::Test {
 protected:
  // As after a first connection.
  void Close() {
    ASSERT_TRUE(breaker_.BeginTrial());
    breaker_.EndTrial(OkStatus());
    ASSERT_TRUE(breaker_.closed());
  }
  milliseconds Pause() const {
    return std::chrono::duration_cast<milliseconds>(breaker_.next_trial() - clock_.Now());
  }

  const CircuitBreaker::Options options_;
  FakeClock clock_;
  CircuitBreaker breaker_{options_, &clock_, 1};
};

TEST_F(CircuitBreakerTest, BeginsOpenWithATrialDue) {
  EXPECT_EQ(breaker_.state(), State::kOpen);
  EXPECT_EQ(breaker_.openings(), 0U);
  EXPECT_TRUE(breaker_.BeginTrial());
  EXPECT_EQ(breaker_.state(), State::kHalfOpen);
  breaker_.EndTrial(OkStatus());
  EXPECT_EQ(breaker_.state(), State::kClosed);
  EXPECT_TRUE(breaker_.why().ok());
}

TEST_F(CircuitBreakerTest, OpensAfterFailuresInARowOnly) {
  Close();
  for (uint32_t round = 0; round < 5; ++round) {
    for (uint32_t i = 1; i < options_.failures; ++i) breaker_.Failed(kDown);
    breaker_.Succeeded();
  }
  EXPECT_TRUE(breaker_.closed());
  for (uint32_t i = 0; i < options_.failures; ++i) breaker_.Failed(kDown);
  EXPECT_EQ(breaker_.state(), State::kOpen);
  EXPECT_EQ(breaker_.why(), kDown);
  EXPECT_EQ(breaker_.openings(), 1U);
}

TEST_F(CircuitBreakerTest, ALostConnectionOpensItAtOnce) {
  Close();
  breaker_.Trip(kDown);
  EXPECT_EQ(breaker_.state(), State::kOpen);
  breaker_.Trip(kDown);
  EXPECT_EQ(breaker_.openings(), 1U);
}

TEST_F(CircuitBreakerTest, OnlyOneTrialAtATimeAndNoneBeforeThePauseIsOver) {
  Close();
  breaker_.Trip(kDown);
  EXPECT_FALSE(breaker_.BeginTrial());
  clock_.Advance(options_.first_pause);
  EXPECT_TRUE(breaker_.BeginTrial());
  EXPECT_FALSE(breaker_.BeginTrial());
  breaker_.EndTrial(kDown);
  EXPECT_EQ(breaker_.state(), State::kOpen);
  EXPECT_FALSE(breaker_.BeginTrial());
}

TEST_F(CircuitBreakerTest, PausesDoubleUpToTheLongestEachBetweenHalfAndWhole) {
  Close();
  breaker_.Trip(kDown);
  milliseconds whole = options_.first_pause;
  for (int i = 0; i < 40; ++i) {
    EXPECT_GE(Pause(), whole / 2 - milliseconds(1)) << i;
    EXPECT_LE(Pause(), whole) << i;
    clock_.Advance(whole);
    ASSERT_TRUE(breaker_.BeginTrial());
    breaker_.EndTrial(kDown);
    whole = std::min(whole * 2, options_.longest_pause);
  }
  EXPECT_EQ(breaker_.openings(), 1U);
}

TEST_F(CircuitBreakerTest, OneThatOpensSoonAgainPausesLonger) {
  Close();
  for (int i = 0; i < 6; ++i) {
    breaker_.Trip(kDown);
    clock_.Advance(options_.longest_pause);
    ASSERT_TRUE(breaker_.BeginTrial());
    breaker_.EndTrial(OkStatus());
  }
  breaker_.Trip(kDown);
  EXPECT_GE(Pause(), options_.longest_pause / 2 - milliseconds(1));
}

TEST_F(CircuitBreakerTest, OneThatHeldForAWhileBeginsAnew) {
  Close();
  for (int i = 0; i < 6; ++i) {
    breaker_.Trip(kDown);
    clock_.Advance(options_.longest_pause);
    ASSERT_TRUE(breaker_.BeginTrial());
    breaker_.EndTrial(OkStatus());
    clock_.Advance(options_.steady_after);
  }
  breaker_.Trip(kDown);
  EXPECT_LE(Pause(), options_.first_pause);
}

TEST_F(CircuitBreakerTest, LateOutcomesChangeNothing) {
  Close();
  breaker_.Trip(kDown);
  const Time due = breaker_.next_trial();
  breaker_.Succeeded();
  breaker_.Failed(Error(StatusCode::kUnavailable, "late"));
  breaker_.EndTrial(OkStatus());
  EXPECT_EQ(breaker_.state(), State::kOpen);
  EXPECT_EQ(breaker_.next_trial(), due);
  EXPECT_EQ(breaker_.why(), kDown);
}

TEST_F(CircuitBreakerTest, ARefusalSaysWhyAndWhenNext) {
  Close();
  breaker_.Trip(kDown);
  const Status refusal = breaker_.Refusal("10.0.0.1:50061");
  EXPECT_EQ(refusal.code(), StatusCode::kUnavailable);
  EXPECT_THAT(Message(refusal), HasSubstr("10.0.0.1:50061"));
  EXPECT_THAT(Message(refusal), HasSubstr("cannot reach it"));
  ASSERT_TRUE(RetryAfter(refusal).has_value());
  EXPECT_LE(*RetryAfter(refusal), options_.first_pause);
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_EQ(RetryAfter(breaker_.Refusal("s")), milliseconds(0));
}

// A server that comes back is not met by all its clients at once.
TEST(CircuitBreakers, OfManyClientsComeBackApart) {
  FakeClock clock;
  std::set<milliseconds> pauses;
  for (uint64_t client = 0; client < 32; ++client) {
    CircuitBreaker breaker({.first_pause = milliseconds(4000)}, &clock, RandomU64());
    ASSERT_TRUE(breaker.BeginTrial());
    breaker.EndTrial(kDown);
    pauses.insert(std::chrono::duration_cast<milliseconds>(breaker.next_trial() - clock.Now()));
  }
  EXPECT_GT(pauses.size(), 20U);
  EXPECT_GT(*pauses.rbegin() - *pauses.begin(), milliseconds(1000));
}

TEST(CircuitBreakers, ManyThreadsGetOneTrialEach) {
  const RealClock clock;
  CircuitBreaker breaker({.first_pause = milliseconds(1), .longest_pause = milliseconds(1)}, &clock,
                         1);
  std::atomic<int> inside{0}, most{0}, trials{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.push_back(StartThread("trial", [&](const std::stop_token&) {
        while (trials < 200) {
          breaker.Failed(kDown);
          if (!breaker.BeginTrial()) continue;
          const int now = ++inside;
          most = std::max<int>(most, now);
          ++trials;
          --inside;
          breaker.EndTrial(trials % 2 == 0 ? OkStatus() : kDown);
          breaker.Trip(kDown);
        }
      }));
    }
  }
  EXPECT_EQ(most, 1);
}

}  // namespace
}  // namespace passband::test
