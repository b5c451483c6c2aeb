// Goal: whoever runs a server sees every tenant's sequences, nobody else does, and a server that
// drains refuses what is new, says so everywhere, and finishes what it began.
#include "services/server/operator_service.h"

#include <arpa/inet.h>
#include <grpcpp/generic/generic_stub.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <array>
#include <future>

#include "gmock/gmock.h"
#include "passband/v1/operator.grpc.pb.h"
#include "services/grpc_status.h"
#include "tests/services/server_fixture.h"
#include "tests/support/server_process.h"

namespace passband::testing {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<grpc::Channel> ChannelTo(const std::string& address) {
  return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
}

// What grpc.health.v1.Health/Check says: 1 serving, 2 not. The messages are written out, because
// Debian ships no header of them.
int Health(const std::string& address) {
  grpc::GenericStub stub(ChannelTo(address));
  const grpc::Slice nothing;
  const grpc::ByteBuffer request(&nothing, 1);
  grpc::ByteBuffer response;
  grpc::ClientContext context;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, "/grpc.health.v1.Health/Check", {}, &request, &response,
                 [&](grpc::Status status) { done.set_value(std::move(status)); });
  const grpc::Status status = done.get_future().get();
  EXPECT_TRUE(status.ok()) << status.error_message();
  grpc::Slice slice;
  if (!status.ok() || !response.DumpToSingleSlice(&slice).ok() || slice.size() != 2) return -1;
  return slice.begin()[1];  // after the tag of field 1
}

// An IPv4 address of this machine that is not a loopback one, or "".
std::string OuterAddress() {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return "";
  std::string out;
  for (const ifaddrs* each = all; each != nullptr && out.empty(); each = each->ifa_next) {
    if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != AF_INET) continue;
    if ((each->ifa_flags & IFF_LOOPBACK) != 0 || (each->ifa_flags & IFF_UP) == 0) continue;
    std::array<char, INET_ADDRSTRLEN> text{};
    const auto* address = reinterpret_cast<const sockaddr_in*>(each->ifa_addr);
    inet_ntop(AF_INET, &address->sin_addr, text.data(), text.size());
    out = text.data();
  }
  freeifaddrs(all);
  return out;
}

class OperatorServiceTest : public ServerTest {
 protected:
  std::unique_ptr<v1::Operator::Stub> Operator() const {
    return v1::Operator::NewStub(ChannelTo(ControlAddress(*server_)));
  }
  v1::ListAllSequencesResponse List(uint64_t after = 0, uint32_t limit = 0,
                                    const std::string& tenant = "") const {
    v1::ListAllSequencesRequest request;
    request.set_after(after);
    request.set_limit(limit);
    request.set_tenant(tenant);
    v1::ListAllSequencesResponse response;
    grpc::ClientContext context;
    const grpc::Status status = Operator()->ListAllSequences(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  grpc::Status Inspect(uint64_t sequence, v1::InspectSequenceResponse& response) const {
    v1::InspectSequenceRequest request;
    request.set_sequence(sequence);
    grpc::ClientContext context;
    return Operator()->InspectSequence(&context, request, &response);
  }
  v1::DrainResponse Drain() const {
    v1::DrainResponse response;
    grpc::ClientContext context;
    const grpc::Status status = Operator()->Drain(&context, {}, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
};

TEST_F(OperatorServiceTest, ListsEveryTenantOrOne) {
  EXPECT_EQ(List().sequences_size(), 0);
  const auto a = Client("a"), b = Client("b");
  const uint64_t first = Open(*a), second = Open(*b), third = Open(*a);
  const auto all = List();
  ASSERT_EQ(all.sequences_size(), 3);
  EXPECT_EQ(all.sequences(0).id(), first);
  EXPECT_EQ(all.sequences(1).id(), second);
  EXPECT_EQ(all.sequences(1).tenant(), "b");
  EXPECT_FALSE(all.more());
  ASSERT_EQ(all.models_size(), 1);
  EXPECT_EQ(all.models(0).SerializeAsString(), TestModel().SerializeAsString());
  EXPECT_EQ(List(0, 0, "b").sequences_size(), 1);
  EXPECT_EQ(List(0, 0, "nobody").sequences_size(), 0);
  const auto page = List(first, 1);
  ASSERT_EQ(page.sequences_size(), 1);
  EXPECT_EQ(page.sequences(0).id(), second);
  EXPECT_TRUE(page.more());
  EXPECT_EQ(List(third).sequences_size(), 0);
}

TEST_F(OperatorServiceTest, InspectTellsShapeAndOwner) {
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  const uint64_t sequence = Open(*client);
  ASSERT_TRUE(Fill(*client, sequence, 0, 70).ok());
  v1::InspectSequenceResponse found;
  ASSERT_TRUE(Inspect(sequence, found).ok());
  EXPECT_EQ(found.sequence().committed_tokens(), 70U);
  EXPECT_EQ(found.sequence().resident_bytes(), 2 * kLayers * kBlockBytes);
  EXPECT_EQ(found.model().SerializeAsString(), TestModel().SerializeAsString());
  EXPECT_EQ(found.owner().session(), client->session().session());
  EXPECT_FALSE(found.owner().connection_lost());
  EXPECT_EQ(Inspect(sequence + 1, found).error_code(), grpc::NOT_FOUND);
  EXPECT_EQ(Inspect(0, found).error_code(), grpc::NOT_FOUND);
}

TEST_F(OperatorServiceTest, ASealedSequenceOutlivesItsOwner) {
  auto client = Client("a");
  v1::SealSequenceRequest seal;
  seal.set_sequence(Open(*client));
  v1::SealSequenceResponse sealed;
  ASSERT_TRUE(client->stub().SealSequence(client->Context().get(), seal, &sealed).ok());
  v1::DisconnectResponse bye;
  ASSERT_TRUE(client->stub().Disconnect(client->Context().get(), {}, &bye).ok());
  v1::InspectSequenceResponse found;
  ASSERT_TRUE(Inspect(seal.sequence(), found).ok());
  EXPECT_EQ(found.sequence().state(), v1::SEQUENCE_STATE_SEALED);
  EXPECT_FALSE(found.has_owner());
}

TEST_F(OperatorServiceTest, OnlyLocalPeersAreLocal) {
  for (const char* peer :
       {"ipv4:127.0.0.1:4711", "ipv4:127.9.9.9:1", "ipv6:[::1]:4711", "ipv6:%5B::1%5D:4711",
        "ipv6:[::ffff:127.0.0.1]:1", "unix:", "unix:/run/passband.sock"}) {
    EXPECT_TRUE(server::IsLocalPeer(peer)) << peer;
  }
  for (const char* peer : {"", "ipv4:10.0.0.1:4711", "ipv4:12.7.0.1:1", "ipv6:[::10]:4711",
                           "ipv6:[fe80::1]:1", "ipv6:[::ffff:10.0.0.1]:1", "127.0.0.1:1"}) {
    EXPECT_FALSE(server::IsLocalPeer(peer)) << peer;
  }
}

TEST_F(OperatorServiceTest, CallersFromElsewhereAreRefusedUnlessAllowed) {
  const std::string outer = OuterAddress();
  if (outer.empty()) GTEST_SKIP() << "this machine has a loopback interface only";
  server::Settings settings = SmallSettings();
  settings.host = "0.0.0.0";
  for (const bool allowed : {false, true}) {
    using Who = server::OperatorPolicy::Who;
    settings.operators.who = allowed ? Who::kAnybody : Who::kLocal;
    Start(settings);
    const auto operators = v1::Operator::NewStub(
        ChannelTo(server::HostPort(outer, server_->endpoints().control_port)));
    v1::ListAllSequencesResponse listed;
    grpc::ClientContext list;
    const grpc::Status status = operators->ListAllSequences(&list, {}, &listed);
    EXPECT_EQ(status.ok(), allowed);
    if (allowed) continue;
    EXPECT_EQ(status.error_code(), grpc::PERMISSION_DENIED);
    EXPECT_THAT(status.error_message(), HasSubstr("--operators any"));
    v1::InspectSequenceResponse inspected;
    grpc::ClientContext inspect;
    EXPECT_EQ(operators->InspectSequence(&inspect, {}, &inspected).error_code(),
              grpc::PERMISSION_DENIED);
    v1::DrainResponse drained;
    grpc::ClientContext drain;
    EXPECT_EQ(operators->Drain(&drain, {}, &drained).error_code(), grpc::PERMISSION_DENIED);
    EXPECT_EQ(Get(*server_, "/readyz"), "ready\n");
  }
}

TEST_F(OperatorServiceTest, DrainIsSaidEverywhere) {
  const std::string address = ControlAddress(*server_);
  EXPECT_EQ(Get(*server_, "/readyz"), "ready\n");
  EXPECT_EQ(Health(address), 1);
  EXPECT_EQ(Metric(*server_, "passband_draining"), 0);
  const auto client = Client("a");
  Open(*client);
  const v1::DrainResponse drained = Drain();
  EXPECT_EQ(drained.open_sequences(), 1U);
  EXPECT_EQ(drained.sessions(), 1U);
  EXPECT_EQ(Get(*server_, "/readyz", 503), "draining\n");
  EXPECT_EQ(Get(*server_, "/healthz"), "ok\n");
  EXPECT_EQ(Health(address), 2);
  EXPECT_EQ(Metric(*server_, "passband_draining"), 1);
  EXPECT_EQ(Metric(*server_, "passband_ready"), 0);
  v1::InfoResponse info;
  grpc::ClientContext context;
  ASSERT_TRUE(client->stub().Info(&context, {}, &info).ok());
  EXPECT_TRUE(info.draining());
  EXPECT_EQ(Drain().open_sequences(), 1U);
}

TEST_F(OperatorServiceTest, DrainingRefusesWhatIsNew) {
  const auto client = Client("a");
  const uint64_t sequence = Open(*client);
  Drain();
  const auto expect_refused = [](const grpc::Status& status, const grpc::ClientContext& context) {
    EXPECT_EQ(status.error_code(), grpc::UNAVAILABLE);
    EXPECT_THAT(status.error_message(), HasSubstr("draining"));
    EXPECT_EQ(context.GetServerTrailingMetadata().count(kAnsweredMetadata), 1U);
  };
  v1::ConnectRequest connect;
  connect.set_protocol_version(1);
  v1::ConnectResponse connected;
  grpc::ClientContext bare;
  expect_refused(client->stub().Connect(&bare, connect, &connected), bare);
  v1::OpenSequenceRequest open;
  open.set_model(TestModel().fingerprint());
  v1::OpenSequenceResponse opened;
  const auto opening = client->Context();
  expect_refused(client->stub().OpenSequence(opening.get(), open, &opened), *opening);
  v1::ForkSequenceRequest fork;
  fork.set_sequence(sequence);
  v1::ForkSequenceResponse forked;
  const auto forking = client->Context();
  expect_refused(client->stub().ForkSequence(forking.get(), fork, &forked), *forking);
}

TEST_F(OperatorServiceTest, DrainingFinishesWhatIsOpen) {
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  const uint64_t sequence = Open(*client);
  ASSERT_TRUE(Fill(*client, sequence, 0, 64).ok());
  Drain();
  ASSERT_TRUE(Fill(*client, sequence, 64, 64).ok());
  const RawReply read = client->Read(sequence, 0, 0, 128);
  ASSERT_TRUE(read.status.ok()) << read.status;
  EXPECT_EQ(read.payload, TestRows(sequence, 0, 0, 128));
  v1::HeartbeatResponse beat;
  EXPECT_TRUE(client->stub().Heartbeat(client->Context().get(), {}, &beat).ok());
  v1::CloseSequenceRequest close;
  close.set_sequence(sequence);
  v1::CloseSequenceResponse closed;
  EXPECT_TRUE(client->stub().CloseSequence(client->Context().get(), close, &closed).ok());
  v1::DisconnectResponse bye;
  EXPECT_TRUE(client->stub().Disconnect(client->Context().get(), {}, &bye).ok());
  const v1::DrainResponse drained = Drain();
  EXPECT_EQ(drained.open_sequences(), 0U);
  EXPECT_EQ(drained.sessions(), 0U);
}

// The time is bounded by ctest's limit: a worker that stays connected must not hold it up.
TEST(ServerProgram, SigtermDrainsAndExitsWithZero) {
  auto server = test::ServerProcess::Start(
      {.binary = PASSBAND_SERVER, .flags = {"--ram", "64MiB", "--stop-timeout", "1s"}});
  ASSERT_TRUE(server.ok()) << server.status();
  RawClient client((*server)->control_address(), "a");
  ASSERT_TRUE(client.Hello().ok());
  EXPECT_EQ((*server)->Stop(), 0);
  EXPECT_THAT((*server)->Log(), HasSubstr("draining"));
  EXPECT_THAT((*server)->Log(), HasSubstr("server_stopped"));
}

}  // namespace
}  // namespace passband::testing
