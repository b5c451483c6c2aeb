// Goal: every message of the data plane over UCX, shared memory and TCP, sent without a session,
// with wrong secrets, again, and by another tenant: dropped and counted or answered NOT_FOUND, and
// nothing is changed or shown.
#include "base/hash.h"
#include "tests/services/server_fixture.h"

namespace passband::testing {
namespace {

using transport::HeaderBytes;
using transport::MessageType;
using transport::RequestContext;

constexpr auto kSoon = std::chrono::milliseconds(50);  // an answer would have come

struct Message {
  MessageType type;
  uint64_t id = 0;
  Bytes header, payload;
};

template <typename Header>
Bytes ToBytes(const Header& header) {
  const auto bytes = HeaderBytes(header);
  return {bytes.begin(), bytes.end()};
}

class UcxCredentialsTest : public ServerTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    Start(SmallSettings());
    owner_ = Client("a", GetParam());
    stranger_ = Client("b", GetParam());
    for (RawClient* client : {owner_.get(), stranger_.get()}) ASSERT_TRUE(client->Hello().ok());
    sequence_ = Open(*owner_);
    ASSERT_TRUE(Fill(*owner_, sequence_, 0, 64).ok());
    v1::RegisterProfileRequest profile;
    profile.set_profile_json(TestProfile()->ToJson());
    v1::RegisterProfileResponse made;
    ASSERT_TRUE(owner_->stub().RegisterProfile(owner_->Context().get(), profile, &made).ok());
    profile_ = made.profile_id();
  }

  // Of this type, about the owner's sequence, signed with the context's key. A new type has no
  // case here, and does not compile. Replies are sent to the server as they are.
  Message Make(MessageType type, const RequestContext& context, uint64_t id) {
    Message out{.type = type, .id = id, .header = {}, .payload = {}};
    switch (type) {
      case MessageType::kHello: {
        auto hello = transport::NewHello(context, id, id);
        out.payload = Bytes(100, std::byte{1});
        transport::Sign(context.key, hello, out.payload);
        out.header = ToBytes(hello);
        break;
      }
      case MessageType::kFetch: {
        transport::FetchBuilder builder;
        const std::vector<uint32_t> tokens = {1, 2, 3};
        builder.Add(sequence_, 0, 0, tokens);
        auto fetch = builder.Finish(context, id, kRowBytes);
        EXPECT_TRUE(fetch.ok());
        transport::Sign(context.key, *fetch, builder.payload());
        out.header = ToBytes(*fetch);
        out.payload = {builder.payload().begin(), builder.payload().end()};
        break;
      }
      case MessageType::kAppend: {
        auto append = transport::NewAppend(context, id);
        append.sequence = sequence_;
        append.first_token = 64;
        append.count = 10;
        append.row_bytes = kRowBytes;
        append.kv_heads = kKvHeads;
        out.payload = TestRows(sequence_, 0, 64, 10);
        append.checksum = Checksum(out.payload);
        transport::Sign(context.key, append);
        out.header = ToBytes(append);
        break;
      }
      case MessageType::kSlices: {
        auto slices = transport::NewSlices(context, id);
        slices.sequence = sequence_;
        slices.profile = profile_;
        slices.count = 10;
        transport::Sign(context.key, slices);
        out.header = ToBytes(slices);
        break;
      }
      case MessageType::kRead: {
        auto read = transport::NewRead(context, id);
        read.sequence = sequence_;
        read.count = 10;
        transport::Sign(context.key, read);
        out.header = ToBytes(read);
        break;
      }
      case MessageType::kBye: {
        auto bye = transport::NewBye(context, id);
        transport::Sign(context.key, bye);
        out.header = ToBytes(bye);
        break;
      }
      case MessageType::kHelloAck:
      case MessageType::kFetchReply:
      case MessageType::kAppendAck:
      case MessageType::kSlicesReply:
      case MessageType::kReadReply: {
        transport::ReplyHeader reply{};
        reply.magic = transport::kWireMagic;
        reply.version = transport::kWireVersion;
        reply.type = type;
        reply.header_bytes = sizeof(reply);
        reply.request_id = id;
        transport::Sign(context.key, reply, {});
        out.header = ToBytes(reply);
        break;
      }
    }
    return out;
  }

  static std::vector<MessageType> Requests() {
    return {MessageType::kHello,  MessageType::kFetch, MessageType::kAppend,
            MessageType::kSlices, MessageType::kRead,  MessageType::kBye};
  }
  static std::vector<MessageType> Replies() {
    return {MessageType::kHelloAck, MessageType::kFetchReply, MessageType::kAppendAck,
            MessageType::kSlicesReply, MessageType::kReadReply};
  }

  double Errors(const std::string& reason) {
    return Metric(*server_, "passband_transport_errors_total{reason=\"" + reason + "\"}");
  }

  // What is stored, and who is connected.
  std::string View() {
    v1::StatSequenceRequest stat;
    stat.set_sequence(sequence_);
    v1::StatSequenceResponse found;
    EXPECT_TRUE(owner_->stub().StatSequence(owner_->Context().get(), stat, &found).ok());
    found.mutable_sequence()->clear_idle_seconds();
    const RawReply rows = owner_->Read(sequence_, 1, 0, 64);
    EXPECT_EQ(rows.payload, TestRows(sequence_, 1, 0, 64)) << rows.status;
    // The last token of layer 0: an append that was taken shows there.
    const RawReply more = owner_->Read(sequence_, 0, 64, 1);
    std::string out = found.ShortDebugString() + more.status.ToString();
    for (const char* metric : {"passband_sessions", "passband_memory_used_bytes",
                               "passband_full_attention_bytes_total"}) {
      out += fmt::format(" {}", Metric(*server_, metric));
    }
    for (const char* transport : {"shm", "tcp"}) {
      out += fmt::format(" {}", Metric(*server_, fmt::format("passband_transport_connections{{"
                                                             "transport=\"{}\"}}",
                                                             transport)));
    }
    return out;
  }

  // Sent over the stranger's connection: counted once under `reason`, answered to nobody.
  void ExpectDropped(const Message& message, const std::string& reason) {
    SCOPED_TRACE(transport::ToString(message.type) + " " + reason);
    const double before = Errors(reason);
    stranger_->Send(message.type, message.header, message.payload);
    EXPECT_TRUE(stranger_->Wait([&] { return Errors(reason) == before + 1; })) << Errors(reason);
    EXPECT_FALSE(stranger_->Await(message.id, kSoon).has_value());
    EXPECT_FALSE(owner_->Await(message.id, std::chrono::milliseconds(1)).has_value());
  }
  void ExpectAllDropped(const RequestContext& context, const std::string& reason) {
    const std::string before = View();
    for (const MessageType type : Requests()) {
      ExpectDropped(Make(type, context, 1'000'000 + stranger_->NextId()), reason);
    }
    EXPECT_EQ(View(), before);
  }

  std::unique_ptr<RawClient> owner_, stranger_;
  uint64_t sequence_ = 0;
  uint64_t profile_ = 0;
};

TEST_P(UcxCredentialsTest, NoSession) {
  ExpectAllDropped({}, "unknown_session");
  RequestContext unknown = stranger_->identity();
  unknown.session += 1;
  ExpectAllDropped(unknown, "unknown_session");
}

TEST_P(UcxCredentialsTest, AnotherStartOfTheServer) {
  RequestContext stale = owner_->identity();
  stale.epoch += 1;
  ExpectAllDropped(stale, "stale_epoch");
}

TEST_P(UcxCredentialsTest, WrongSecrets) {
  RequestContext forged = owner_->identity();
  forged.key = stranger_->identity().key;
  ExpectAllDropped(forged, "wrong_mac");
  forged.key = {};
  ExpectAllDropped(forged, "wrong_mac");
  RequestContext own = stranger_->identity();
  own.key.back() ^= std::byte{1};
  ExpectAllDropped(own, "wrong_mac");
}

TEST_P(UcxCredentialsTest, AnEndedSession) {
  const auto gone = Client("a", GetParam());
  const RequestContext ended = gone->identity();
  v1::DisconnectResponse response;
  ASSERT_TRUE(gone->stub().Disconnect(gone->Context().get(), {}, &response).ok());
  ExpectAllDropped(ended, "unknown_session");
}

// What the owner sent, and was served, in the stranger's hands.
TEST_P(UcxCredentialsTest, OverheardAndSentAgain) {
  for (const MessageType type :
       {MessageType::kFetch, MessageType::kAppend, MessageType::kSlices, MessageType::kRead}) {
    const Message message = Make(type, owner_->identity(), owner_->NextId());
    owner_->Send(type, message.header, message.payload);
    const auto reply = owner_->Await(message.id);
    ASSERT_TRUE(reply.has_value());
    EXPECT_TRUE(reply->status.ok()) << reply->status;
    const std::string before = View();
    ExpectDropped(message, "replayed");
    EXPECT_EQ(View(), before);
  }
}

TEST_P(UcxCredentialsTest, AnotherTenantsSequenceIsNotFound) {
  const std::string before = View();
  for (const MessageType type :
       {MessageType::kFetch, MessageType::kAppend, MessageType::kSlices, MessageType::kRead}) {
    const Message message = Make(type, stranger_->identity(), stranger_->NextId());
    stranger_->Send(type, message.header, message.payload);
    const auto reply = stranger_->Await(message.id);
    ASSERT_TRUE(reply.has_value());
    EXPECT_EQ(reply->status.code(), StatusCode::kNotFound) << reply->status;
    EXPECT_EQ(reply->header.rows, 0U);
  }
  EXPECT_EQ(View(), before);
}

// Nothing that only a server sends is taken by one: UCX itself has nobody to give it to.
TEST_P(UcxCredentialsTest, RepliesToAServer) {
  const std::string before = View();
  for (const MessageType type : Replies()) {
    const Message message = Make(type, owner_->identity(), owner_->NextId());
    owner_->Send(type, message.header, message.payload);
    EXPECT_FALSE(owner_->Await(message.id, kSoon).has_value());
  }
  EXPECT_EQ(View(), before);
}

INSTANTIATE_TEST_SUITE_P(Transports, UcxCredentialsTest, ::testing::Values("auto", "tcp"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace passband::testing
