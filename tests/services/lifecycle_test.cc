// Goal: a server starts with what it needs or says what is missing, and stops in order.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "gmock/gmock.h"
#include "tests/services/server_fixture.h"
#include "tests/support/temp_folder.h"

#ifdef __SANITIZE_ADDRESS__
// UCX 1.13 loses a few hundred bytes when ucp_worker_create fails (TakenDataPortIsNamed).
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libucs.so\n"; }
#endif

namespace passband::testing {
namespace {

using ::testing::HasSubstr;

TEST(LifecycleTest, TakenPortsAreNamed) {
  auto first = server::Server::Start(SmallSettings());
  ASSERT_TRUE(first.ok()) << first.status();
  server::Settings settings = SmallSettings();
  settings.control_port = (*first)->endpoints().control_port;
  EXPECT_THAT(Message(server::Server::Start(settings).status()), HasSubstr("--control-port"));
  settings = SmallSettings();
  settings.http_port = (*first)->endpoints().http_port;
  EXPECT_THAT(Message(server::Server::Start(settings).status()), HasSubstr("--http-port"));
}

TEST(LifecycleTest, TakenDataPortIsNamed) {
  const int taken = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(taken, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(taken, 1), 0);
  ASSERT_EQ(getsockname(taken, reinterpret_cast<sockaddr*>(&address), &size), 0);
  server::Settings settings = SmallSettings();
  settings.data_port = ntohs(address.sin_port);
  EXPECT_THAT(Message(server::Server::Start(settings).status()), HasSubstr("--data-port"));
  close(taken);
}

TEST(LifecycleTest, MoreMemoryThanThereIsIsRefused) {
  server::Settings settings = SmallSettings();
  settings.ram_bytes = uint64_t{1} << 50;
  EXPECT_EQ(server::Server::Start(settings).status().code(), StatusCode::kResourceExhausted);
}

TEST(LifecycleTest, UnknownTransportIsRefused) {
  server::Settings settings = SmallSettings();
  settings.transports = "pigeon";
  EXPECT_FALSE(server::Server::Start(settings).ok());
}

TEST(LifecycleTest, ReadyFileTellsThePortsInUse) {
  server::Settings settings = SmallSettings();
  const test::TempFolder folder;
  settings.ready_file = folder / "ready.json";
  auto server = server::Server::Start(settings);
  ASSERT_TRUE(server.ok()) << server.status();
  std::ifstream file(settings.ready_file);
  const auto json = nlohmann::json::parse(file);
  EXPECT_EQ(json.at("pid"), getpid());
  EXPECT_EQ(json.at("control_port"), (*server)->endpoints().control_port);
  EXPECT_EQ(json.at("http_port"), (*server)->endpoints().http_port);
  RawClient client(json.at("control_address"), "a");
  EXPECT_NE(client.session().session(), 0U);
}

TEST(LifecycleTest, UnwritableReadyFileIsAnError) {
  server::Settings settings = SmallSettings();
  settings.ready_file = "/nowhere/at/all.json";
  EXPECT_THAT(Message(server::Server::Start(settings).status()), HasSubstr("--ready-file"));
}

TEST_F(ServerTest, StopsWithClientsConnected) {
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  const uint64_t sequence = Open(*client);
  ASSERT_TRUE(Fill(*client, sequence, 0, 64).ok());
  server_->Stop();
  server_->Stop();
  server_.reset();
}

TEST_F(ServerTest, RequestsWhileStoppingAreAnswered) {
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  const uint64_t sequence = Open(*client);
  ASSERT_TRUE(Fill(*client, sequence, 0, 128).ok());
  std::jthread stopping([this] { server_->Stop(); });
  // Served, refused, or the server is gone: never other bytes.
  for (int i = 0; i < 200; ++i) {
    auto read = transport::NewRead(client->identity(), client->NextId());
    read.sequence = sequence;
    read.count = 128;
    transport::Sign(client->identity().key, read);
    client->Send(transport::MessageType::kRead, transport::HeaderBytes(read), {});
    const auto reply = client->Await(read.request.request_id, std::chrono::milliseconds(500));
    if (!reply.has_value()) break;
    if (reply->status.ok()) {
      ASSERT_EQ(reply->payload, TestRows(sequence, 0, 0, 128));
    } else {
      EXPECT_EQ(reply->status.code(), StatusCode::kUnavailable) << reply->status;
    }
  }
}

TEST_F(ServerTest, EndedSessionsConnectionIsClosed) {
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  v1::DisconnectResponse response;
  ASSERT_TRUE(client->stub().Disconnect(client->Context().get(), {}, &response).ok());
  EXPECT_TRUE(client->Wait(
      [&] { return Metric(*server_, "passband_transport_connections{transport=\"shm\"}") == 0; }));
  EXPECT_EQ(Metric(*server_, "passband_sessions"), 0);
}

TEST_F(ServerTest, SilentSessionEndsAndFreesItsMemory) {
  server::Settings settings = SmallSettings();
  settings.lease = std::chrono::milliseconds(300);
  Start(settings);
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  ASSERT_TRUE(Fill(*client, Open(*client), 0, 64).ok());
  EXPECT_GT(Metric(*server_, "passband_memory_used_bytes"), 0);
  EXPECT_TRUE(client->Wait([&] { return Metric(*server_, "passband_sessions") == 0; }));
  EXPECT_EQ(Metric(*server_, "passband_memory_used_bytes"), 0);
  EXPECT_EQ(Metric(*server_, "passband_sessions_closed_total{reason=\"lease_expired\"}"), 1);
}

}  // namespace
}  // namespace passband::testing
