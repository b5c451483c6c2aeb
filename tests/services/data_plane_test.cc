// Goal: over a real connection, what is appended is what is fetched, read and sliced.
#include <random>

#include "base/hash.h"
#include "tests/services/server_fixture.h"

namespace passband::testing {
namespace {

class DataPlaneTest : public ServerTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    ServerTest::SetUp();
    client_ = Client("a", GetParam());
    const Status hello = client_->Hello();
    ASSERT_TRUE(hello.ok()) << hello;
  }

  uint64_t RegisterProfile() {
    v1::RegisterProfileRequest request;
    request.set_profile_json(TestProfile()->ToJson());
    v1::RegisterProfileResponse response;
    const grpc::Status status =
        client_->stub().RegisterProfile(client_->Context().get(), request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.profile_id();
  }

  std::unique_ptr<RawClient> client_;
};

INSTANTIATE_TEST_SUITE_P(Transports, DataPlaneTest, ::testing::Values("tcp", "auto"),
                         [](const auto& suite) { return std::string(suite.param); });

TEST_P(DataPlaneTest, BlocksAndPartsComeBackAsTheyWere) {
  const uint64_t sequence = Open(*client_);
  const Status filled = Fill(*client_, sequence, 0, 64 + 64 + 17);
  ASSERT_TRUE(filled.ok()) << filled;
  ASSERT_TRUE(Fill(*client_, sequence, 145, 60).ok());
  for (uint16_t layer = 0; layer < kLayers; ++layer) {
    const RawReply reply = client_->Read(sequence, layer, 3, 190);
    ASSERT_TRUE(reply.status.ok()) << reply.status;
    EXPECT_EQ(reply.header.rows, 190U * kKvHeads);
    EXPECT_EQ(reply.payload, TestRows(sequence, layer, 3, 190));
  }
}

TEST_P(DataPlaneTest, EveryWayOfSendingAnAppendStoresTheSame) {
  using transport::SendMode;
  const uint64_t sequence = Open(*client_);
  uint64_t first = 0;
  for (const SendMode mode : {SendMode::kEager, SendMode::kRendezvous}) {
    for (const uint32_t count : {64U, 1U, 30U, 33U}) {
      const RawReply reply = client_->Append(sequence, 0, first, count, kKvHeads, kRowBytes,
                                             TestRows(sequence, 0, first, count), mode);
      ASSERT_TRUE(reply.status.ok()) << reply.status;
      first += count;
    }
  }
  const RawReply read = client_->Read(sequence, 0, 0, static_cast<uint32_t>(first));
  ASSERT_TRUE(read.status.ok()) << read.status;
  EXPECT_EQ(read.payload, TestRows(sequence, 0, 0, static_cast<uint32_t>(first)));
}

TEST_P(DataPlaneTest, FetchReturnsTheRowsAskedForInOrder) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const uint64_t sequences[] = {Open(*client_), Open(*client_)};
  for (const uint64_t sequence : sequences) ASSERT_TRUE(Fill(*client_, sequence, 0, 300).ok());
  for (int round = 0; round < 10; ++round) {
    Bytes expected;
    const RawReply reply = client_->Fetch(
        [&](transport::FetchBuilder& builder) {
          for (size_t groups = 1 + random() % 8; groups > 0; --groups) {
            const uint64_t sequence = sequences[random() % 2];
            const auto layer = static_cast<uint16_t>(random() % kLayers);
            const auto head = static_cast<uint16_t>(random() % kKvHeads);
            std::vector<uint32_t> tokens(1 + random() % 900);
            for (uint32_t& token : tokens) {
              token = static_cast<uint32_t>(random() % 300);
              const Bytes row = TestRow(sequence, layer, head, token);
              expected.insert(expected.end(), row.begin(), row.end());
            }
            builder.Add(sequence, layer, head, tokens);
          }
        },
        kRowBytes, round % 2 == 0 ? transport::kWantChecksum : 0);
    ASSERT_TRUE(reply.status.ok()) << reply.status;
    EXPECT_EQ(reply.header.rows * kRowBytes, expected.size());
    ASSERT_EQ(reply.payload, expected);
    EXPECT_EQ((reply.header.flags & transport::kHasChecksum) != 0, round % 2 == 0);
    if (round % 2 == 0) {
      EXPECT_EQ(reply.header.checksum, Checksum(expected));
    }
  }
}

TEST_P(DataPlaneTest, SlicesAreThoseOfTheRows) {
  const uint64_t sequence = Open(*client_);
  ASSERT_TRUE(Fill(*client_, sequence, 0, 200).ok());
  const uint64_t profile_id = RegisterProfile();
  const auto profile = TestProfile();
  for (uint16_t layer = 0; layer < kLayers; ++layer) {
    const RawReply reply = client_->Slices(sequence, profile_id, layer, 10, 180);
    ASSERT_TRUE(reply.status.ok()) << reply.status;
    Bytes expected(size_t{180} * kKvHeads * profile->slice_bytes());
    for (uint32_t head = 0; head < kKvHeads; ++head) {
      for (uint32_t token = 0; token < 180; ++token) {
        const Bytes row = TestRow(sequence, layer, head, 10 + token);
        kernels::EncodeSlices(*profile->spec(layer, head), row.data(), kRowBytes, 1,
                              expected.data() + (head * 180 + token) * profile->slice_bytes());
      }
    }
    EXPECT_EQ(reply.payload, expected);
  }
}

TEST_P(DataPlaneTest, ManyRequestsAtOnceAreAllAnswered) {
  const uint64_t sequence = Open(*client_);
  ASSERT_TRUE(Fill(*client_, sequence, 0, 256).ok());
  std::vector<uint64_t> ids;
  for (uint32_t i = 0; i < client_->session().max_outstanding(); ++i) {
    auto read = transport::NewRead(client_->identity(), client_->NextId());
    read.sequence = sequence;
    read.first_token = i;
    read.count = 200;
    transport::Sign(client_->identity().key, read);
    client_->Send(transport::MessageType::kRead, transport::HeaderBytes(read), {});
    ids.push_back(read.request.request_id);
  }
  for (uint32_t i = 0; i < ids.size(); ++i) {
    const auto reply = client_->Await(ids[i]);
    ASSERT_TRUE(reply.has_value());
    ASSERT_TRUE(reply->status.ok()) << reply->status;
    EXPECT_EQ(reply->payload, TestRows(sequence, 0, i, 200));
  }
}

TEST_P(DataPlaneTest, SecondHelloOverTheSameConnectionDoesNoHarm) {
  const uint64_t sequence = Open(*client_);
  ASSERT_TRUE(client_->Hello().ok());
  EXPECT_TRUE(Fill(*client_, sequence, 0, 64).ok());
}

TEST_P(DataPlaneTest, WorkerThatConnectsAnewKeepsItsSequences) {
  const uint64_t sequence = Open(*client_);
  ASSERT_TRUE(Fill(*client_, sequence, 0, 64).ok());
  client_->Vanish();
  ASSERT_TRUE(client_->Hello().ok());
  EXPECT_TRUE(client_->Read(sequence, 1, 0, 64).status.ok());
}

TEST_P(DataPlaneTest, TransportIsKnownAndTold) {
  ASSERT_TRUE(Fill(*client_, Open(*client_), 0, 64).ok());
  const std::string transport = std::string(GetParam()) == "tcp" ? "tcp" : "shm";
  const std::string series = "passband_transport_connections{transport=\"" + transport + "\"}";
  EXPECT_TRUE(client_->Wait([&] { return Metric(*server_, series) == 1; }));
  v1::InfoResponse info;
  grpc::ClientContext context;
  ASSERT_TRUE(client_->stub().Info(&context, {}, &info).ok());
  ASSERT_EQ(info.transports_size(), 1);
  EXPECT_EQ(info.transports(0), transport);
}

TEST(DataThreadsTest, SeveralThreadsServeTheirOwnSessions) {
  server::Settings settings = SmallSettings();
  settings.data_threads = 2;
  auto server = server::Server::Start(settings);
  ASSERT_TRUE(server.ok()) << server.status();
  RawClient a(ControlAddress(**server), "a");
  RawClient b(ControlAddress(**server), "a");
  EXPECT_NE(a.session().data_address(), b.session().data_address());
  EXPECT_TRUE(a.Hello().ok());
  EXPECT_TRUE(b.Hello().ok());
}

}  // namespace
}  // namespace passband::testing
