// Who drives a connection, and how much of a core waiting costs.
#include "sdk/progress_driver.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/thread.h"
#include "gtest/gtest.h"

namespace passband {
namespace {

using std::chrono::milliseconds;

// Events that other threads raise.
class RaisedEvents : public EventSource {
 public:
  RaisedEvents() : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}
  ~RaisedEvents() override { ::close(fd_); }

  void Raise() {
    const uint64_t one = 1;
    ASSERT_EQ(::write(fd_, &one, sizeof(one)), ssize_t{sizeof(one)});
  }

  bool Progress() override {
    ++polls;
    uint64_t count = 0;
    if (::read(fd_, &count, sizeof(count)) != sizeof(count)) return false;
    events += count;
    return true;
  }
  StatusOr<bool> Arm() override { return true; }
  int event_fd() const override { return fd_; }

  std::atomic<uint64_t> polls{0};
  std::atomic<uint64_t> events{0};

 private:
  const int fd_;
};

struct Driven {
  explicit Driven(std::chrono::microseconds spin)
      : driver(source, {.spin = spin,
                        .after_progress = [](Time) {},
                        .busy = [this] { return busy.load(); },
                        .heartbeat = [this] { ++heartbeats; },
                        .heartbeat_every = milliseconds(20)}) {
    driver.StartPump();
  }
  ~Driven() { driver.Stop(); }

  // Waits for one more event, raised after `delay`.
  void WaitForOne(Duration delay) {
    const uint64_t before = source.events;
    std::jthread other([&] {
      std::this_thread::sleep_for(delay);
      source.Raise();
    });
    ProgressDriver::Lock lock(driver);
    EXPECT_TRUE(driver.WaitUntil(
        lock, [&] { return source.events > before; },
        std::chrono::steady_clock::now() + std::chrono::seconds(60)));
  }

  RaisedEvents source;
  std::atomic<bool> busy{false};
  std::atomic<int> heartbeats{0};
  ProgressDriver driver;
};

TEST(ProgressDriver, OneWhoseAnswersTakeLongStopsPolling) {
  // Polling for as long as this takes thousands of polls.
  Driven driven(milliseconds(5));
  for (int i = 0; i < 20; ++i) driven.WaitForOne(milliseconds(12));
  const uint64_t before = driven.source.polls;
  constexpr int kWaits = 10;
  for (int i = 0; i < kWaits; ++i) driven.WaitForOne(milliseconds(12));
  // 10 us of polls and few wakes.
  EXPECT_LT((driven.source.polls - before) / kWaits, 500u);
}

TEST(ProgressDriver, ThePumpTakesOverWhatNobodyWaitsFor) {
  Driven driven(std::chrono::microseconds(200));
  driven.busy = true;
  for (int i = 0; i < 50; ++i) {
    driven.WaitForOne(milliseconds(i % 3));
    const uint64_t before = driven.source.events;
    driven.source.Raise();
    const Time end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (driven.source.events == before && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    EXPECT_GT(driven.source.events, before);
  }
}

TEST(ProgressDriver, WhatIsSentWhileNobodyWaitsGetsOn) {
  Driven driven(std::chrono::microseconds(200));
  for (int i = 0; i < 20; ++i) {
    driven.busy = false;
    driven.WaitForOne(milliseconds(3));  // Long enough for the pump to leave it to us.
    const uint64_t before = driven.source.events;
    {
      ProgressDriver::Lock lock(driven.driver);
      driven.busy = true;
      driven.driver.NotifySent();
    }
    driven.source.Raise();
    const Time end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (driven.source.events == before && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    EXPECT_GT(driven.source.events, before);
  }
}

TEST(ProgressDriver, TheHeartGoesOnBeatingWhileSomebodyWaits) {
  Driven driven(std::chrono::microseconds(200));
  driven.WaitForOne(milliseconds(500));
  EXPECT_GE(driven.heartbeats, 3);
}

TEST(ProgressDriver, StopEndsAWait) {
  Driven driven(std::chrono::microseconds(200));
  std::jthread other([&] {
    std::this_thread::sleep_for(milliseconds(20));
    driven.driver.Stop();
  });
  ProgressDriver::Lock lock(driven.driver);
  EXPECT_FALSE(driven.driver.WaitUntil(
      lock, [] { return false; }, std::chrono::steady_clock::now() + std::chrono::seconds(60)));
}

}  // namespace
}  // namespace passband
