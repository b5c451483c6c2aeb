// Goal: over gRPC as over UCX, whatever is wrong gets its own error and the next good request its
// bytes.
#include <random>

#include "base/hash.h"
#include "tests/services/grpc_client.h"
#include "tests/services/server_fixture.h"

namespace passband::testing {
namespace {

using transport::HeaderBytes;
using transport::MessageType;

class GrpcDataRefusalTest : public ServerTest {
 protected:
  void SetUp() override {
    server::Settings settings = SmallSettings();
    settings.data_grpc = true;
    Start(settings);
    writer_ = Client("a");
    ASSERT_TRUE(writer_->Hello().ok());
    sequence_ = Open(*writer_);
    ASSERT_TRUE(Fill(*writer_, sequence_, 0, 100).ok());
    client_ = std::make_unique<GrpcClient>(ControlAddress(*server_));
    ASSERT_TRUE(client_->Connect("a").ok());
  }

  void TearDown() override {
    // Whatever happened, the server still serves the right bytes.
    const GrpcClient::Answer answer = client_->Read(sequence_, 1, 0, 100);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.payload, TestRows(sequence_, 1, 0, 100));
  }

  // Refused by the server itself, without any bytes.
  static void ExpectRefused(const GrpcClient::Answer& answer, grpc::StatusCode code) {
    EXPECT_EQ(answer.status.error_code(), code) << answer.status.error_message();
    EXPECT_TRUE(answer.has_epoch) << answer.status.error_message();
    EXPECT_TRUE(answer.payload.empty());
  }

  double Errors(const std::string& reason) {
    return Metric(*server_, "passband_transport_errors_total{reason=\"" + reason + "\"}");
  }

  std::unique_ptr<RawClient> writer_;  // over UCX
  std::unique_ptr<GrpcClient> client_;
  uint64_t sequence_ = 0;
};

TEST_F(GrpcDataRefusalTest, BothWaysGiveTheSameBytes) {
  const std::vector<uint32_t> tokens = {99, 0, 7, 7, 64};
  const auto mine = client_->Fetch(sequence_, 1, 1, tokens, kRowBytes);
  ASSERT_TRUE(mine.status.ok()) << mine.status.error_message();
  const RawReply theirs = writer_->Fetch(
      [&](transport::FetchBuilder& builder) { builder.Add(sequence_, 1, 1, tokens); }, kRowBytes);
  EXPECT_EQ(mine.payload, theirs.payload);
  ASSERT_TRUE(client_->Append(sequence_, 0, 100, 20, TestRows(sequence_, 0, 100, 20)).status.ok());
  EXPECT_EQ(writer_->Read(sequence_, 0, 90, 30).payload, TestRows(sequence_, 0, 90, 30));
}

TEST_F(GrpcDataRefusalTest, WhatIsNotThere) {
  ExpectRefused(client_->Fetch(sequence_, 0, 0, {0, 100}, kRowBytes), grpc::OUT_OF_RANGE);
  ExpectRefused(client_->Fetch(sequence_, kLayers, 0, {1}, kRowBytes), grpc::INVALID_ARGUMENT);
  ExpectRefused(client_->Fetch(sequence_, 0, kKvHeads, {1}, kRowBytes), grpc::INVALID_ARGUMENT);
  ExpectRefused(client_->Fetch(sequence_, 0, 0, {1}, 2 * kRowBytes), grpc::INVALID_ARGUMENT);
  ExpectRefused(client_->Fetch(sequence_ + 1000, 0, 0, {1}, kRowBytes), grpc::NOT_FOUND);
  ExpectRefused(client_->Read(sequence_ + 1000, 0, 0, 1), grpc::NOT_FOUND);
  ExpectRefused(client_->Read(sequence_, 0, 95, 10), grpc::OUT_OF_RANGE);
  ExpectRefused(client_->Read(sequence_, 0, 0, 1 << 20), grpc::INVALID_ARGUMENT);
  ExpectRefused(client_->Slices(sequence_, 12345, 0, 0, 10), grpc::NOT_FOUND);
  ExpectRefused(client_->Append(sequence_, 0, 0, 10, Bytes(10 * 2 * kRowBytes)),
                grpc::ALREADY_EXISTS);
  ExpectRefused(client_->Append(sequence_, 0, 110, 10, Bytes(10 * 2 * kRowBytes)),
                grpc::FAILED_PRECONDITION);
}

TEST_F(GrpcDataRefusalTest, WrongCounts) {
  // Says 3 rows, brings 2; says 2 groups, brings 1.
  transport::FetchBuilder builder;
  const std::vector<uint32_t> tokens = {1, 2};
  builder.Add(sequence_, 0, 0, tokens);
  for (int wrong = 0; wrong < 2; ++wrong) {
    auto fetch = builder.Finish(client_->credentials().identity, client_->NextId(), kRowBytes);
    ASSERT_TRUE(fetch.ok());
    (wrong == 0 ? fetch->row_count : fetch->group_count) += 1;
    transport::Sign(client_->credentials().identity.key, *fetch, builder.payload());
    ExpectRefused(client_->Call(MessageType::kFetch, HeaderBytes(*fetch), builder.payload()),
                  grpc::INVALID_ARGUMENT);
  }
  // An append of 10 rows with the bytes of 9; nothing is stored.
  auto append = transport::NewAppend(client_->credentials().identity, client_->NextId());
  append.sequence = sequence_;
  append.first_token = 100;
  append.count = 10;
  append.row_bytes = kRowBytes;
  append.kv_heads = kKvHeads;
  const Bytes rows = TestRows(sequence_, 0, 100, 9);
  append.checksum = Checksum(rows);
  transport::Sign(client_->credentials().identity.key, append);
  ExpectRefused(client_->Call(MessageType::kAppend, HeaderBytes(append), rows),
                grpc::INVALID_ARGUMENT);
  ExpectRefused(client_->Read(sequence_, 0, 100, 1), grpc::OUT_OF_RANGE);
}

TEST_F(GrpcDataRefusalTest, CutShortAndTooLong) {
  auto read = client_->NewRead(sequence_, 10);
  transport::Sign(client_->credentials().identity.key, read);
  const auto header = HeaderBytes(read);
  // As a DataRequest on the wire: tag, length, header.
  Bytes message = {std::byte{10}, static_cast<std::byte>(header.size())};
  message.insert(message.end(), header.begin(), header.end());
  for (size_t bytes = 0; bytes < message.size(); ++bytes) {
    ExpectRefused(
        client_->Send("/passband.v1.Data/Read", ToBuffer(std::span(message).first(bytes))),
        grpc::INVALID_ARGUMENT);
  }
  // One byte too many: as a payload that is not there, and as a header that is longer.
  Bytes longer = message;
  longer.push_back(std::byte{0});
  ExpectRefused(client_->Send("/passband.v1.Data/Read", ToBuffer(longer)), grpc::INVALID_ARGUMENT);
  longer[1] = static_cast<std::byte>(header.size() + 1);
  ExpectRefused(client_->Send("/passband.v1.Data/Read", ToBuffer(longer)), grpc::INVALID_ARGUMENT);
  // None of these used the request up.
  EXPECT_TRUE(client_->Send("/passband.v1.Data/Read", ToBuffer(message)).status.ok());
  EXPECT_GT(Errors("malformed"), static_cast<double>(header.size()));
}

TEST_F(GrpcDataRefusalTest, OversizedMessagesAreNotTakenIn) {
  auto append = transport::NewAppend(client_->credentials().identity, client_->NextId());
  append.sequence = sequence_;
  append.first_token = 100;
  append.count = 1;
  append.row_bytes = kRowBytes;
  append.kv_heads = kKvHeads;
  transport::Sign(client_->credentials().identity.key, append);
  // gRPC's own refusal.
  EXPECT_EQ(
      client_->Call(MessageType::kAppend, HeaderBytes(append), Bytes(17 << 20)).status.error_code(),
      grpc::RESOURCE_EXHAUSTED);
  // Within gRPC's limit, and more than any append.
  ExpectRefused(client_->Call(MessageType::kAppend, HeaderBytes(append), Bytes(15 << 20)),
                grpc::INVALID_ARGUMENT);
}

TEST_F(GrpcDataRefusalTest, OneMethodDoesNotTakeAnothersMessage) {
  auto read = client_->NewRead(sequence_, 10);
  transport::Sign(client_->credentials().identity.key, read);
  for (const MessageType type : {MessageType::kFetch, MessageType::kAppend, MessageType::kSlices}) {
    ExpectRefused(client_->Call(type, HeaderBytes(read)), grpc::INVALID_ARGUMENT);
  }
}

TEST_F(GrpcDataRefusalTest, WrongChecksumStoresNothing) {
  auto append = transport::NewAppend(client_->credentials().identity, client_->NextId());
  append.sequence = sequence_;
  append.first_token = 100;
  append.count = 20;
  append.row_bytes = kRowBytes;
  append.kv_heads = kKvHeads;
  const Bytes rows = TestRows(sequence_, 0, 100, 20);
  append.checksum = Checksum(rows) + 1;
  transport::Sign(client_->credentials().identity.key, append);
  ExpectRefused(client_->Call(MessageType::kAppend, HeaderBytes(append), rows), grpc::DATA_LOSS);
  ExpectRefused(client_->Read(sequence_, 0, 100, 1), grpc::OUT_OF_RANGE);
}

TEST_F(GrpcDataRefusalTest, ForgedForeignAndReplayedRequests) {
  GrpcClient other(ControlAddress(*server_));
  ASSERT_TRUE(other.Connect("b").ok());
  const auto& key = client_->credentials().identity.key;
  const auto send = [&](const transport::ReadHeader& read) {
    return client_->Call(MessageType::kRead, HeaderBytes(read));
  };
  auto read = client_->NewRead(sequence_, 10);
  ExpectRefused(send(read), grpc::UNAUTHENTICATED);  // unsigned
  transport::Sign(other.credentials().identity.key, read);
  ExpectRefused(send(read), grpc::UNAUTHENTICATED);  // by another session
  transport::Sign(key, read);
  auto changed = read;
  changed.first_token += 1;
  ExpectRefused(send(changed), grpc::UNAUTHENTICATED);
  EXPECT_EQ(Errors("wrong_mac"), 3);
  auto stale = read;
  stale.request.epoch += 1;
  transport::Sign(key, stale);
  ExpectRefused(send(stale), grpc::UNAUTHENTICATED);
  EXPECT_EQ(Errors("stale_epoch"), 1);
  auto unknown = read;
  unknown.request.session += 1;
  transport::Sign(key, unknown);
  ExpectRefused(send(unknown), grpc::UNAUTHENTICATED);
  EXPECT_EQ(Errors("unknown_session"), 1);
  // The true one, once.
  EXPECT_EQ(send(read).payload, TestRows(sequence_, 0, 0, 10));
  ExpectRefused(send(read), grpc::UNAUTHENTICATED);
  EXPECT_EQ(Errors("replayed"), 1);
}

TEST_F(GrpcDataRefusalTest, APassedDeadlineIsAnError) {
  const std::vector<uint32_t> tokens(8000, 5);
  transport::FetchBuilder builder;
  builder.Add(sequence_, 0, 0, tokens);
  auto fetch = builder.Finish(client_->credentials().identity, client_->NextId(), kRowBytes);
  ASSERT_TRUE(fetch.ok());
  fetch->request.deadline_us = 1;
  transport::Sign(client_->credentials().identity.key, *fetch, builder.payload());
  ExpectRefused(client_->Call(MessageType::kFetch, HeaderBytes(*fetch), builder.payload()),
                grpc::DEADLINE_EXCEEDED);
}

TEST_F(GrpcDataRefusalTest, RandomMessagesAreAnswered) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const char* const kMethods[] = {"/passband.v1.Data/Fetch", "/passband.v1.Data/Append",
                                  "/passband.v1.Data/Slices", "/passband.v1.Data/Read"};
  for (int round = 0; round < 1000; ++round) {
    Bytes message(random() % 300);
    for (std::byte& byte : message) byte = static_cast<std::byte>(random());
    if (message.size() > 2 && random() % 2 == 0) {
      message[0] = std::byte{10};
      message[1] = static_cast<std::byte>(random() % 100);
    }
    const auto answer = client_->Send(kMethods[random() % 4], ToBuffer(message));
    EXPECT_FALSE(answer.status.ok());
    EXPECT_TRUE(answer.has_epoch) << answer.status.error_message();
  }
}

// Past the door every field is still a stranger's.
TEST_F(GrpcDataRefusalTest, RandomSignedRequestsAreAnswered) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const auto odd = [&]() -> uint64_t {
    const uint64_t kValues[] = {0,  1,   2,   63,         64,         65,
                                99, 100, 101, UINT32_MAX, UINT64_MAX, random()};
    return kValues[random() % std::size(kValues)];
  };
  for (int round = 0; round < 500; ++round) {
    auto read =
        client_->NewRead(random() % 2 == 0 ? odd() : sequence_, static_cast<uint32_t>(odd()));
    read.first_token = odd();
    read.layer = static_cast<uint16_t>(odd());
    transport::Sign(client_->credentials().identity.key, read);
    const auto answer = client_->Call(MessageType::kRead, HeaderBytes(read));
    if (!answer.status.ok()) {
      EXPECT_TRUE(answer.has_epoch) << answer.status.error_message();
      continue;
    }
    EXPECT_EQ(answer.payload, TestRows(sequence_, read.layer, read.first_token, read.count));
  }
}

}  // namespace
}  // namespace passband::testing
