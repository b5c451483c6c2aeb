// Goal: a waiting worker is woken by a message, by Wake() and by its time limit,
// whether it spins or sleeps; and sleeping does not lose what came just before.
#include <atomic>

#include "base/thread.h"
#include "tests/transport/ucx_support.h"

namespace passband::transport {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

UcxWorkerOptions SleepAtOnce(milliseconds max_sleep) {
  return {.single_thread = true, .spin = std::chrono::microseconds(0), .max_sleep = max_sleep};
}

class UcxWorkerTest : public testing::TestWithParam<std::string> {};

TEST_P(UcxWorkerTest, ReturnsAfterItsTimeLimit) {
  Node node(GetParam(), SleepAtOnce(std::chrono::seconds(10)));
  while (node.worker->Progress()) {
  }
  const auto start = steady_clock::now();
  while (steady_clock::now() - start < milliseconds(30)) {
    node.worker->WaitForEvent(milliseconds(30) - (steady_clock::now() - start));
  }
  EXPECT_LT(steady_clock::now() - start, std::chrono::seconds(5));
}

TEST_P(UcxWorkerTest, IsWokenByAnotherThread) {
  Node node(GetParam(), SleepAtOnce(std::chrono::seconds(30)));
  std::atomic<bool> stop{false};
  const auto waker = StartThread("waker", [&](std::stop_token) {
    stop.store(true);
    node.worker->Wake();
  });
  const auto start = steady_clock::now();
  while (!stop.load()) node.worker->WaitForEvent(std::chrono::seconds(30));
  EXPECT_LT(steady_clock::now() - start, std::chrono::seconds(10));
}

TEST_P(UcxWorkerTest, RemembersAWakeThatCameBeforeTheWait) {
  Node node(GetParam(), SleepAtOnce(std::chrono::seconds(30)));
  while (node.worker->Progress()) {
  }
  node.worker->Wake();
  const auto start = steady_clock::now();
  EXPECT_TRUE(node.worker->WaitForEvent(std::chrono::seconds(30)));
  EXPECT_LT(steady_clock::now() - start, std::chrono::seconds(10));
}

// Two threads that only ever wait pass a message back and forth: a lost event
// costs max_sleep, and this would take minutes.
TEST_P(UcxWorkerTest, SleepsWithoutLosingMessages) {
  constexpr int kRounds = 200;
  Node a(GetParam(), SleepAtOnce(milliseconds(1000)));
  Node b(GetParam(), SleepAtOnce(milliseconds(1000)));
  const std::vector<std::byte> address_of_a(a.worker->address().begin(), a.worker->address().end());
  int returned = 0;
  ASSERT_TRUE(a.worker->SetHandler(1, [&](IncomingMessage&) { ++returned; }).ok());
  std::unique_ptr<UcxEndpoint> to_a;
  ASSERT_TRUE(
      b.worker->SetHandler(1, [&](IncomingMessage&) { to_a->Send(1, {}, {}, {}, [](Status) {}); })
          .ok());
  auto to_b = a.Connect(b.worker->address());
  {
    to_a = b.Connect(address_of_a);
    const auto echo = StartThread("echo", [&](const std::stop_token& stop) {
      while (!stop.stop_requested()) b.worker->WaitForEvent(milliseconds(1000));
      to_a.reset();
    });
    const auto start = steady_clock::now();
    for (int round = 0; round < kRounds; ++round) {
      to_b->Send(1, {}, {}, {}, [](Status) {});
      while (returned <= round && steady_clock::now() - start < std::chrono::seconds(60)) {
        a.worker->WaitForEvent(milliseconds(1000));
      }
    }
    EXPECT_EQ(returned, kRounds);
    EXPECT_LT(steady_clock::now() - start, std::chrono::seconds(20));
  }
}

TEST_P(UcxWorkerTest, SleepsOutsideTheCallersLock) {
  Node node(GetParam(), {.single_thread = false});
  while (node.worker->Progress()) {
  }
  auto armed = node.worker->Arm();
  ASSERT_TRUE(armed.ok()) << armed.status();
  while (!*armed) {
    node.worker->Progress();
    armed = node.worker->Arm();
    ASSERT_TRUE(armed.ok());
  }
  node.worker->Wake();
  EXPECT_TRUE(node.worker->Sleep(std::chrono::seconds(5)));
  EXPECT_GE(node.worker->event_fd(), 0);
}

INSTANTIATE_TEST_SUITE_P(Transports, UcxWorkerTest, testing::Values("shm", "tcp"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace passband::transport
