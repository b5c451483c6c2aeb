// Goal: a worker on another host reaches the server by whatever leads there. The hosts are
// network namespaces, so memory could be shared and yet nothing may come of it.
#include <gtest/gtest.h>

#include "sdk/remote_service.h"
#include "tests/sdk/service_fixture.h"
#include "tests/support/mounts.h"
#include "tests/support/network.h"

namespace passband::test {
namespace {

using End = Network::End;

class OtherHost : public ::testing::Test {
 protected:
  // Before anything else of this process opens a socket.
  void SetUp() override {
    Status made = OwnMounts();
    if (made.ok()) {
      auto network = Network::Create();
      made = network.status();
      if (made.ok()) network_ = *std::move(network);
    }
    if (!made.ok()) GTEST_SKIP() << "no network namespaces: " << made;
    auto server = ServerProcess::Start(
        {.binary = PASSBAND_SERVER_BINARY,
         .flags = {"--ram", "64MiB", "--net-devices", network_->Device(End::kServer)},
         .launcher = network_->Launcher(End::kServer),
         .host = network_->server_host()});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    const Status entered = network_->Enter(End::kWorker);
    ASSERT_TRUE(entered.ok()) << entered;
  }

  RemoteOptions Options() const {
    RemoteOptions out;
    out.control_address = server_->control_address();
    out.net_devices = network_->Device(End::kWorker);
    return out;
  }

  std::unique_ptr<Network> network_;
  std::unique_ptr<ServerProcess> server_;
};

TEST_F(OtherHost, AutoGoesOverTcpWhereSharedMemoryLeadsNowhere) {
  auto service = RemoteService::Connect(Options());
  ASSERT_TRUE(service.ok()) << service.status() << "\n" << server_->Log();
  EXPECT_EQ((*service)->transport(), "tcp");
  const ModelInfo model = SmallModel();
  ASSERT_TRUE((*service)->RegisterModel(model).ok());
  const auto opened = (*service)->Open({.model = model.fingerprint.text(), .token_ids = {}});
  ASSERT_TRUE(opened.ok()) << opened.status();
  std::mt19937_64 random(1);
  ExpectedRows rows(model, 2);
  const Status appended = AppendUpTo(**service, model, opened->id, rows, 200, random);
  ASSERT_TRUE(appended.ok()) << appended;
  const auto read = (*service)->StartRead({opened->id, 1, 0, 200});
  const auto got = read->Wait();
  ASSERT_TRUE(got.ok()) << got.status();
  const auto want = rows.Range(1, 0, 200);
  EXPECT_TRUE(std::equal(got->begin(), got->end(), want.begin(), want.end()));
}

TEST(SameHost, AutoGoesOverSharedMemory) {
  auto server =
      ServerProcess::Start({.binary = PASSBAND_SERVER_BINARY, .flags = {"--ram", "64MiB"}});
  ASSERT_TRUE(server.ok()) << server.status();
  RemoteOptions options;
  options.control_address = (*server)->control_address();
  auto service = RemoteService::Connect(options);
  ASSERT_TRUE(service.ok()) << service.status();
  EXPECT_EQ((*service)->transport(), "shm");
}

}  // namespace
}  // namespace passband::test
