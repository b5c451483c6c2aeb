// Goal: a worker that is killed is noticed, and what it left unsealed is freed.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>

#include "tests/services/server_fixture.h"

namespace passband::testing {
namespace {

class PeerDeathTest : public ServerTest, public ::testing::WithParamInterface<const char*> {};

INSTANTIATE_TEST_SUITE_P(Transports, PeerDeathTest, ::testing::Values("tcp", "auto"),
                         [](const auto& suite) { return std::string(suite.param); });

TEST_P(PeerDeathTest, KilledInMidAppendIsNoticedAndFreed) {
  const std::string command =
      std::string(PASSBAND_DOOMED_WORKER) + " " + ControlAddress(*server_) + " " + GetParam();
  FILE* worker = popen(command.c_str(), "r");
  ASSERT_NE(worker, nullptr);
  unsigned long long open = 0;
  unsigned long long sealed = 0;
  ASSERT_EQ(std::fscanf(worker, "%llu %llu", &open, &sealed), 2);
  pclose(worker);

  const auto other = Client("a");
  ASSERT_TRUE(other->Hello().ok());
  // By the endpoint's error and the grace, long before the lease of 30 s.
  EXPECT_TRUE(other->Wait([&] { return !Exists(*other, open); }, std::chrono::seconds(15)));
  EXPECT_EQ(Metric(*server_, "passband_sessions_closed_total{reason=\"connection_lost\"}"), 1);
  EXPECT_EQ(Metric(*server_, "passband_transport_errors_total{reason=\"connection_lost\"}"), 1);
  // What was sealed stays, and nothing but that holds memory.
  EXPECT_TRUE(Exists(*other, sealed));
  EXPECT_TRUE(other->Wait([&] {
    return Metric(*server_, "passband_memory_used_bytes") ==
           static_cast<double>(kLayers * kBlockBytes);
  }));
  const RawReply reply = other->Read(sealed, 1, 0, 64);
  ASSERT_TRUE(reply.status.ok()) << reply.status;
  EXPECT_EQ(reply.payload, TestRows(sealed, 1, 0, 64));
}

}  // namespace
}  // namespace passband::testing
