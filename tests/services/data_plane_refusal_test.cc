// Goal: whatever is wrong gets its own error, or is dropped and counted; nothing crashes, nothing
// else is answered, and the next good request is served.
#include <cstring>
#include <random>

#include "base/hash.h"
#include "base/units.h"
#include "tests/services/server_fixture.h"

namespace passband::testing {
namespace {

using transport::HeaderBytes;
using transport::MessageType;
using transport::SendMode;

class DataPlaneRefusalTest : public ServerTest {
 protected:
  void SetUp() override { Restart(SmallSettings()); }

  void Restart(const server::Settings& settings) {
    client_.reset();
    Start(settings);
    client_ = Client("a");
    const Status hello = client_->Hello();
    ASSERT_TRUE(hello.ok()) << hello;
    sequence_ = Open(*client_);
    const Status filled = Fill(*client_, sequence_, 0, 100);
    ASSERT_TRUE(filled.ok()) << filled;
  }

  void TearDown() override {
    // Whatever happened, the server still serves the right bytes.
    const RawReply reply = client_->Read(sequence_, 1, 0, 100);
    EXPECT_TRUE(reply.status.ok()) << reply.status;
    EXPECT_EQ(reply.payload, TestRows(sequence_, 1, 0, 100));
  }

  StatusCode FetchCode(uint64_t sequence, uint16_t layer, uint16_t head, uint32_t token,
                       uint32_t row_bytes = kRowBytes) {
    const std::vector<uint32_t> tokens = {0, token};
    const RawReply reply = client_->Fetch(
        [&](transport::FetchBuilder& builder) { builder.Add(sequence, layer, head, tokens); },
        row_bytes);
    if (!reply.status.ok()) {
      EXPECT_EQ(reply.header.rows, 0U);
    }
    return reply.status.code();
  }

  transport::ReadHeader NewRead() {
    auto read = transport::NewRead(client_->identity(), client_->NextId());
    read.sequence = sequence_;
    read.count = 10;
    return read;
  }

  // Within a time in which an answer would have come.
  bool Answered(uint64_t request) {
    return client_->Await(request, std::chrono::milliseconds(100)).has_value();
  }

  std::optional<RawReply> SendRead(const transport::ReadHeader& read,
                                   Duration patience = RawClient::kPatience) {
    client_->Send(MessageType::kRead, HeaderBytes(read), {});
    return client_->Await(read.request.request_id, patience);
  }

  double Errors(const std::string& reason) {
    return Metric(*server_, "passband_transport_errors_total{reason=\"" + reason + "\"}");
  }

  std::unique_ptr<RawClient> client_;
  uint64_t sequence_ = 0;
};

TEST_F(DataPlaneRefusalTest, FetchOfWhatIsNotThere) {
  EXPECT_EQ(FetchCode(sequence_, 0, 0, 99), StatusCode::kOk);
  EXPECT_EQ(FetchCode(sequence_, 0, 0, 100), StatusCode::kOutOfRange);
  EXPECT_EQ(FetchCode(sequence_, 0, 0, UINT32_MAX), StatusCode::kOutOfRange);
  EXPECT_EQ(FetchCode(sequence_, kLayers, 0, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(FetchCode(sequence_, 0, kKvHeads, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(FetchCode(sequence_ + 1000, 0, 0, 1), StatusCode::kNotFound);
  EXPECT_EQ(FetchCode(sequence_, 0, 0, 1, kRowBytes / 2), StatusCode::kInvalidArgument);
  EXPECT_EQ(FetchCode(sequence_, 0, 0, 1, 2 * kRowBytes), StatusCode::kInvalidArgument);
}

TEST_F(DataPlaneRefusalTest, AnotherTenantsSequenceIsNotFound) {
  const auto stranger = Client("b");
  ASSERT_TRUE(stranger->Hello().ok());
  EXPECT_EQ(stranger->Read(sequence_, 0, 0, 10).status.code(), StatusCode::kNotFound);
  const std::vector<uint32_t> tokens = {1};
  EXPECT_EQ(
      stranger
          ->Fetch([&](transport::FetchBuilder& builder) { builder.Add(sequence_, 0, 0, tokens); },
                  kRowBytes)
          .status.code(),
      StatusCode::kNotFound);
  EXPECT_EQ(
      stranger->Append(sequence_, 0, 100, 1, kKvHeads, kRowBytes, TestRows(sequence_, 0, 100, 1))
          .status.code(),
      StatusCode::kNotFound);
}

TEST_F(DataPlaneRefusalTest, ReadAndSlicesOfWhatIsNotThere) {
  EXPECT_EQ(client_->Read(sequence_, 0, 95, 10).status.code(), StatusCode::kOutOfRange);
  EXPECT_EQ(client_->Read(sequence_, 9, 0, 10).status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(client_->Read(sequence_, 0, 0, 1 << 20).status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(client_->Slices(sequence_, 12345, 0, 0, 10).status.code(), StatusCode::kNotFound);
}

TEST_F(DataPlaneRefusalTest, AppendsThatDoNotFit) {
  const auto code = [&](uint64_t first, uint32_t count, uint16_t layer, uint16_t heads,
                        uint32_t row_bytes, SendMode mode) {
    return client_
        ->Append(sequence_, layer, first, count, heads, row_bytes,
                 Bytes(size_t{count} * heads * row_bytes), mode)
        .status.code();
  };
  for (const SendMode mode : {SendMode::kEager, SendMode::kRendezvous}) {
    EXPECT_EQ(code(0, 10, 0, kKvHeads, kRowBytes, mode), StatusCode::kAlreadyExists);
    EXPECT_EQ(code(110, 10, 0, kKvHeads, kRowBytes, mode), StatusCode::kFailedPrecondition);
    EXPECT_EQ(code(100, 10, 7, kKvHeads, kRowBytes, mode), StatusCode::kInvalidArgument);
    EXPECT_EQ(code(100, 10, 0, kKvHeads + 1, kRowBytes, mode), StatusCode::kInvalidArgument);
    EXPECT_EQ(code(100, 10, 0, kKvHeads, kRowBytes * 2, mode), StatusCode::kInvalidArgument);
    // In two blocks.
    EXPECT_EQ(code(100, 30, 0, kKvHeads, kRowBytes, mode), StatusCode::kInvalidArgument);
  }
}

TEST_F(DataPlaneRefusalTest, WrongChecksumStoresNothing) {
  for (const SendMode mode : {SendMode::kEager, SendMode::kRendezvous}) {
    auto append = transport::NewAppend(client_->identity(), client_->NextId());
    append.sequence = sequence_;
    append.first_token = 100;
    append.count = 20;
    append.row_bytes = kRowBytes;
    append.kv_heads = kKvHeads;
    const Bytes rows = TestRows(sequence_, 0, 100, 20);
    append.checksum = Checksum(rows) + 1;
    transport::Sign(client_->identity().key, append);
    client_->Send(MessageType::kAppend, HeaderBytes(append), rows, mode);
    EXPECT_EQ(client_->Await(append.request.request_id)->status.code(), StatusCode::kDataLoss);
    EXPECT_EQ(client_->Read(sequence_, 0, 100, 1).status.code(), StatusCode::kOutOfRange);
  }
  EXPECT_TRUE(Fill(*client_, sequence_, 100, 20).ok());
}

// No answer goes to the session: it could be taken for one to a request of its own.
TEST_F(DataPlaneRefusalTest, WrongMacAndEpochAreDroppedAndCounted) {
  auto read = NewRead();
  transport::Sign(client_->identity().key, read);
  read.first_token ^= 1;
  client_->Send(MessageType::kRead, HeaderBytes(read), {});
  EXPECT_TRUE(client_->Wait([&] { return Errors("wrong_mac") == 1; }));
  EXPECT_FALSE(Answered(read.request.request_id));
  // The id is still good for whoever can sign it.
  read.first_token ^= 1;
  EXPECT_TRUE(SendRead(read)->status.ok());

  read = NewRead();
  read.request.epoch += 1;
  transport::Sign(client_->identity().key, read);
  client_->Send(MessageType::kRead, HeaderBytes(read), {});
  EXPECT_TRUE(client_->Wait([&] { return Errors("stale_epoch") == 1; }));
  EXPECT_FALSE(Answered(read.request.request_id));
}

// Overheard and sent again: dropped, and the first one's answer is the only one.
TEST_F(DataPlaneRefusalTest, AReplayedRequestIsDroppedAndCounted) {
  auto append = transport::NewAppend(client_->identity(), client_->NextId());
  append.sequence = sequence_;
  append.first_token = 100;
  append.count = 10;
  append.row_bytes = kRowBytes;
  append.kv_heads = kKvHeads;
  const Bytes rows = TestRows(sequence_, 0, 100, 10);
  append.checksum = Checksum(rows);
  transport::Sign(client_->identity().key, append);
  client_->Send(MessageType::kAppend, HeaderBytes(append), rows);
  ASSERT_TRUE(client_->Await(append.request.request_id)->status.ok());
  // After a truncation the very same bytes would fit once more.
  v1::TruncateSequenceRequest truncate;
  truncate.set_sequence(sequence_);
  truncate.set_tokens(100);
  v1::TruncateSequenceResponse truncated;
  ASSERT_TRUE(
      client_->stub().TruncateSequence(client_->Context().get(), truncate, &truncated).ok());
  for (const SendMode mode : {SendMode::kEager, SendMode::kRendezvous}) {
    const double before = Errors("replayed");
    client_->Send(MessageType::kAppend, HeaderBytes(append), rows, mode);
    EXPECT_TRUE(client_->Wait([&] { return Errors("replayed") == before + 1; }));
  }
  EXPECT_FALSE(
      client_->Await(append.request.request_id, std::chrono::milliseconds(100)).has_value());
  EXPECT_EQ(client_->Read(sequence_, 0, 100, 1).status.code(), StatusCode::kOutOfRange);
}

// Well signed, by a session of another tenant, in the name of this one's.
TEST_F(DataPlaneRefusalTest, AnotherSessionsKeyProvesNothing) {
  const auto stranger = Client("b");
  ASSERT_TRUE(stranger->Hello().ok());
  auto read = NewRead();
  transport::Sign(stranger->identity().key, read);
  stranger->Send(MessageType::kRead, HeaderBytes(read), {});
  EXPECT_TRUE(client_->Wait([&] { return Errors("wrong_mac") == 1; }));
  // Told neither to whom it was said to be of, nor to the stranger.
  EXPECT_FALSE(Answered(read.request.request_id));
  EXPECT_FALSE(
      stranger->Await(read.request.request_id, std::chrono::milliseconds(100)).has_value());
}

TEST_F(DataPlaneRefusalTest, PayloadOfAFetchIsUnderTheMac) {
  transport::FetchBuilder builder;
  const std::vector<uint32_t> tokens = {1, 2, 3};
  builder.Add(sequence_, 0, 0, tokens);
  auto fetch = builder.Finish(client_->identity(), client_->NextId(), kRowBytes);
  ASSERT_TRUE(fetch.ok());
  transport::Sign(client_->identity().key, *fetch, builder.payload());
  Bytes changed(builder.payload().begin(), builder.payload().end());
  changed.back() ^= std::byte{1};
  client_->Send(MessageType::kFetch, HeaderBytes(*fetch), changed);
  EXPECT_TRUE(client_->Wait([&] { return Errors("wrong_mac") == 1; }));
  EXPECT_FALSE(Answered(fetch->request.request_id));
}

TEST_F(DataPlaneRefusalTest, UnknownSessionsAreDroppedAndCounted) {
  auto read = NewRead();
  read.request.session += 1;
  transport::Sign(client_->identity().key, read);
  client_->Send(MessageType::kRead, HeaderBytes(read), {});
  EXPECT_TRUE(client_->Wait([&] { return Errors("unknown_session") == 1; }));

  auto hello = transport::NewHello(client_->identity(), client_->NextId(), 1);
  hello.request.session += 1;
  transport::Sign(client_->identity().key, hello, Bytes(100));
  client_->Send(MessageType::kHello, HeaderBytes(hello), Bytes(100));
  EXPECT_TRUE(client_->Wait([&] { return Errors("unknown_session") == 2; }));
}

TEST_F(DataPlaneRefusalTest, HelloWithAWrongMacDoesNotConnect) {
  auto hello = transport::NewHello(client_->identity(), client_->NextId(), 1);
  transport::Sign(MacKey{}, hello, Bytes(100));
  client_->Send(MessageType::kHello, HeaderBytes(hello), Bytes(100));
  EXPECT_TRUE(client_->Wait([&] { return Errors("wrong_mac") == 1; }));
}

TEST_F(DataPlaneRefusalTest, AfterByeRequestsAreDropped) {
  const auto second = Client("a");
  ASSERT_TRUE(second->Hello().ok());
  auto bye = transport::NewBye(second->identity(), second->NextId());
  transport::Sign(second->identity().key, bye);
  second->Send(MessageType::kBye, HeaderBytes(bye), {});
  EXPECT_TRUE(second->Wait(
      [&] { return Metric(*server_, "passband_transport_connections{transport=\"shm\"}") == 1; }));
  // The session lives on, and may connect again.
  second->Vanish();
  EXPECT_TRUE(second->Hello().ok());
}

TEST_F(DataPlaneRefusalTest, PassedDeadlineIsAnError) {
  // A reply that the server cannot finish in a microsecond.
  transport::FetchBuilder builder;
  const std::vector<uint32_t> tokens(8000, 5);
  builder.Add(sequence_, 0, 0, tokens);
  auto fetch = builder.Finish(client_->identity(), client_->NextId(), kRowBytes);
  ASSERT_TRUE(fetch.ok());
  fetch->request.deadline_us = 1;
  transport::Sign(client_->identity().key, *fetch, builder.payload());
  client_->Send(MessageType::kFetch, HeaderBytes(*fetch), builder.payload());
  EXPECT_EQ(client_->Await(fetch->request.request_id)->status.code(),
            StatusCode::kDeadlineExceeded);
}

TEST_F(DataPlaneRefusalTest, TooManyAtOnceAreToldToRetry) {
  // Sent in one go, before the server can answer the first.
  const uint32_t limit = client_->session().max_outstanding();
  std::vector<uint64_t> ids;
  for (uint32_t i = 0; i < 20 * limit; ++i) {
    auto read = NewRead();
    read.count = 100;
    transport::Sign(client_->identity().key, read);
    client_->Send(MessageType::kRead, HeaderBytes(read), {});
    ids.push_back(read.request.request_id);
  }
  size_t served = 0;
  for (const uint64_t id : ids) {
    const auto reply = client_->Await(id);
    ASSERT_TRUE(reply.has_value());
    if (reply->status.ok()) {
      ++served;
    } else {
      EXPECT_EQ(reply->status.code(), StatusCode::kResourceExhausted);
      EXPECT_TRUE(RetryAfter(reply->status).has_value());
    }
  }
  EXPECT_GE(served, limit);
}

TEST_F(DataPlaneRefusalTest, FullMemoryIsToldAndOthersAreServed) {
  Status full;
  uint64_t first = 100;
  ASSERT_TRUE(Fill(*client_, sequence_, 100, 28).ok());
  first = 128;
  while (full.ok() && first < 1'000'000) {
    full = Fill(*client_, sequence_, first, 64);
    first += 64;
  }
  EXPECT_EQ(full.code(), StatusCode::kResourceExhausted) << full;
  EXPECT_TRUE(RetryAfter(full).has_value());
  EXPECT_GT(Metric(*server_, "passband_allocation_failures_total"), 0);
  // Reads go on; and memory that is freed can be used.
  EXPECT_EQ(FetchCode(sequence_, 0, 0, 50), StatusCode::kOk);
  v1::TruncateSequenceRequest truncate;
  truncate.set_sequence(sequence_);
  truncate.set_tokens(100);
  v1::TruncateSequenceResponse truncated;
  ASSERT_TRUE(
      client_->stub().TruncateSequence(client_->Context().get(), truncate, &truncated).ok());
  const Status filled = Fill(*client_, sequence_, 100, 100);
  EXPECT_TRUE(filled.ok()) << filled;
}

// One that asks for much and takes nothing holds its share of the memory, until it is cut off.
TEST_F(DataPlaneRefusalTest, PeerThatTakesNoRepliesDoesNotStopTheOthers) {
  ASSERT_TRUE(Fill(*client_, sequence_, 100, 3900).ok());
  const auto stuck = Client("a");
  ASSERT_TRUE(stuck->Hello().ok());
  for (int i = 0; i < 8; ++i) {
    auto read = transport::NewRead(stuck->identity(), stuck->NextId());
    read.sequence = sequence_;
    read.count = 1900;
    transport::Sign(stuck->identity().key, read);
    stuck->Send(MessageType::kRead, HeaderBytes(read), {});
  }
  // From here on it does not progress.
  const auto staged = [this] { return Metric(*server_, "passband_staging_used_bytes"); };
  EXPECT_TRUE(client_->Wait([&] { return staged() > 0; }));
  for (int i = 0; i < 100; ++i) {
    const RawReply reply = client_->Read(sequence_, 0, 0, 2000);
    ASSERT_TRUE(reply.status.ok()) << reply.status;
    EXPECT_EQ(reply.payload, TestRows(sequence_, 0, 0, 2000));
  }
  EXPECT_EQ(Errors("stuck_peer"), 0);
  EXPECT_TRUE(client_->Wait([&] { return Errors("stuck_peer") == 1; }));
  EXPECT_TRUE(client_->Wait([&] { return staged() == 0; }));
}

TEST_F(DataPlaneRefusalTest, RefusedRendezvousLeavesNothingBehind) {
  const double before = Metric(*server_, "passband_memory_used_bytes");
  for (int i = 0; i < 20; ++i) {
    const RawReply reply = client_->Append(sequence_, 9, 0, 64, kKvHeads, kRowBytes,
                                           Bytes(kBlockBytes), SendMode::kRendezvous);
    EXPECT_EQ(reply.status.code(), StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(client_->Wait([&] { return client_->outstanding_sends() == 0; }));
  EXPECT_EQ(Metric(*server_, "passband_memory_used_bytes"), before);
}

// Well-formed messages with parts changed, cut and replaced, signed or not.
TEST_F(DataPlaneRefusalTest, RandomMessagesDoNoHarm) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const MessageType kTypes[] = {MessageType::kHello, MessageType::kFetch, MessageType::kAppend,
                                MessageType::kSlices, MessageType::kRead};
  for (int round = 0; round < 3000; ++round) {
    const MessageType type = kTypes[random() % std::size(kTypes)];
    Bytes header(random() % 2 == 0 ? 88 : random() % 200);
    for (std::byte& byte : header) byte = static_cast<std::byte>(random());
    if (header.size() >= sizeof(transport::RequestHeader) && random() % 4 != 0) {
      transport::RequestHeader start = NewRead().request;
      start.type = type;
      start.header_bytes = static_cast<uint16_t>(header.size());
      std::memcpy(header.data(), &start, sizeof(start));
    }
    Bytes payload(random() % 3000);
    for (std::byte& byte : payload) byte = static_cast<std::byte>(random());
    const auto mode = random() % 8 == 0 ? SendMode::kRendezvous : SendMode::kEager;
    client_->Send(type, header, payload, mode);
    if (round % 100 == 0) client_->Wait([&] { return client_->outstanding_sends() == 0; });
  }
  EXPECT_TRUE(client_->Wait([&] { return client_->outstanding_sends() == 0; }));
}

// The same with right MACs: past the door, every field is still a stranger's.
TEST_F(DataPlaneRefusalTest, RandomSignedRequestsAreAnswered) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const auto odd = [&]() -> uint64_t {
    const uint64_t kValues[] = {0,  1,   2,   63,         64,         65,
                                99, 100, 101, UINT32_MAX, UINT64_MAX, random()};
    return kValues[random() % std::size(kValues)];
  };
  for (int round = 0; round < 500; ++round) {
    auto read = NewRead();
    if (random() % 2 == 0) read.sequence = odd();
    read.first_token = odd();
    read.count = static_cast<uint32_t>(odd());
    read.layer = static_cast<uint16_t>(odd());
    transport::Sign(client_->identity().key, read);
    const auto reply = SendRead(read);
    ASSERT_TRUE(reply.has_value());
    if (!reply->status.ok()) continue;
    EXPECT_EQ(reply->payload, TestRows(sequence_, read.layer, read.first_token, read.count));
  }
}

// Strangers that do not even speak UCX's protocol: a port scanner, a browser.
TEST_F(DataPlaneRefusalTest, RandomBytesOnEveryPortDoNoHarm) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  Restart([] {
    server::Settings settings = SmallSettings();
    settings.transports = "tcp,self";
    return settings;
  }());
  size_t reached = 0;  // the test's own client listens too, on another interface
  for (const auto& [address, port] : ListeningSockets()) {
    for (int i = 0; i < 30; ++i) {
      const bool sent = SendRandomBytes(port, random, i % 3 == 0 ? "GET / HTTP" : "");
      if (i == 0 && sent) ++reached;
    }
  }
  EXPECT_GE(reached, 3U) << "control, data and HTTP";
}

}  // namespace
}  // namespace passband::testing
