// Goal: every message survives the way over the wire unchanged; anything truncated,
// mutated or inconsistent is refused and never crashes; and the MAC covers all of a
// header, and the payload of HELLO and FETCH.
#include "transport/codec.h"

#include <chrono>
#include <random>

#include "gmock/gmock.h"
#include "tests/transport/parse_all.h"

namespace passband::transport {
namespace {

using Bytes = std::vector<std::byte>;

constexpr int kRounds = 2000;

uint64_t FreshSeed() { return std::random_device{}(); }

Bytes Copy(std::span<const std::byte> bytes) { return {bytes.begin(), bytes.end()}; }

RequestContext RandomContext(std::mt19937_64& random) {
  RequestContext context{random(), random(), {}};
  for (auto& byte : context.key) byte = static_cast<std::byte>(random());
  return context;
}

struct Message {
  MessageType type;
  Bytes header;
  Bytes payload;
};

// One valid, signed request of every kind.
std::vector<Message> ValidRequests(const RequestContext& context, std::mt19937_64& random) {
  std::vector<Message> out;
  const Bytes address(100, std::byte{7});
  auto hello = NewHello(context, random(), random());
  Sign(context.key, hello, address);
  out.push_back({MessageType::kHello, Copy(HeaderBytes(hello)), address});

  FetchBuilder builder;
  const std::vector<uint32_t> tokens = {5, 4, 3, 70000};
  builder.Add(random(), 3, 1, tokens);
  builder.Add(random(), 3, 2, std::span(tokens).first(1));
  auto fetch = builder.Finish(context, random(), 512).value();
  fetch.request.flags = kWantChecksum;
  fetch.request.deadline_us = 20000;
  fetch.selected_rows = 9;
  Sign(context.key, fetch, builder.payload());
  out.push_back({MessageType::kFetch, Copy(HeaderBytes(fetch)), Copy(builder.payload())});

  auto append = NewAppend(context, random());
  append.sequence = random();
  append.first_token = 64 * 5 + 10;
  append.count = 54;
  append.row_bytes = 32;
  append.kv_heads = 2;
  append.layer = 31;
  append.checksum = random();
  Sign(context.key, append);
  out.push_back({MessageType::kAppend, Copy(HeaderBytes(append)), Bytes(2 * 54 * 32)});

  auto slices = NewSlices(context, random());
  slices.sequence = random();
  slices.profile = random();
  slices.count = 4096;
  Sign(context.key, slices);
  out.push_back({MessageType::kSlices, Copy(HeaderBytes(slices)), {}});

  auto read = NewRead(context, random());
  read.first_token = 1000;
  read.count = 1;
  Sign(context.key, read);
  out.push_back({MessageType::kRead, Copy(HeaderBytes(read)), {}});

  auto bye = NewBye(context, random());
  Sign(context.key, bye);
  out.push_back({MessageType::kBye, Copy(HeaderBytes(bye)), {}});
  return out;
}

class CodecTest : public testing::Test {
 protected:
  CodecTest() { RecordProperty("seed", std::to_string(seed_)); }
  void TearDown() override {
    if (HasFailure()) std::cerr << "seed " << seed_ << "\n";
  }

  const uint64_t seed_ = FreshSeed();
  std::mt19937_64 random_{seed_};
  const RequestContext context_ = RandomContext(random_);
};

TEST_F(CodecTest, FetchCarriesItsGroups) {
  for (int round = 0; round < 50; ++round) {
    FetchBuilder builder;
    std::vector<FetchGroup> groups;
    std::vector<uint32_t> tokens;
    const int count = 1 + static_cast<int>(random_() % 40);
    for (int i = 0; i < count; ++i) {
      std::vector<uint32_t> part(1 + random_() % 100);
      for (auto& token : part) token = static_cast<uint32_t>(random_());
      groups.push_back({random_(), static_cast<uint16_t>(random_()),
                        static_cast<uint16_t>(random_()), static_cast<uint32_t>(part.size())});
      builder.Add(groups.back().sequence, groups.back().layer, groups.back().kv_head, part);
      tokens.insert(tokens.end(), part.begin(), part.end());
    }
    builder.Add(1, 2, 3, {});
    const auto header = builder.Finish(context_, 77, 512);
    ASSERT_TRUE(header.ok()) << header.status();
    // One byte further, so that nothing is aligned.
    Bytes payload(builder.payload().size() + 1);
    std::copy(builder.payload().begin(), builder.payload().end(), payload.begin() + 1);
    const auto view = ParseFetch(HeaderBytes(*header), std::span(payload).subspan(1));
    ASSERT_TRUE(view.ok()) << view.status();
    EXPECT_EQ(view->header.request.session, context_.session);
    EXPECT_EQ(view->header.request.epoch, context_.epoch);
    EXPECT_EQ(view->header.request.request_id, 77u);
    ASSERT_EQ(view->group_count(), groups.size());
    for (uint32_t i = 0; i < view->group_count(); ++i) {
      const FetchGroup group = view->group(i);
      EXPECT_EQ(std::memcmp(&group, &groups[i], sizeof(group)), 0);
    }
    ASSERT_EQ(view->tokens().size(), tokens.size());
    std::vector<uint32_t> copied(tokens.size());
    view->tokens().CopyTo(copied.data());
    EXPECT_EQ(copied, tokens);
    EXPECT_EQ(view->tokens()[tokens.size() - 1], tokens.back());
    builder.Reset();
    EXPECT_EQ(builder.row_count(), 0u);
  }
}

TEST_F(CodecTest, BuilderRefusesWhatTheWireDoesNotCarry) {
  FetchBuilder builder;
  EXPECT_EQ(builder.Finish(context_, 1, 512).status().code(), StatusCode::kInvalidArgument);
  const std::vector<uint32_t> many(kMaxFetchRows + 1);
  builder.Add(1, 1, 1, many);
  EXPECT_EQ(builder.Finish(context_, 1, 16).status().code(), StatusCode::kInvalidArgument);
  builder.Reset();
  builder.Add(1, 1, 1, std::span(many).first(1));
  EXPECT_EQ(builder.Finish(context_, 1, 0).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(builder.Finish(context_, 1, kMaxRowBytes + 1).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_TRUE(builder.Finish(context_, 1, kMaxRowBytes).ok());
}

TEST_F(CodecTest, ValidRequestsParse) {
  for (const Message& message : ValidRequests(context_, random_)) {
    SCOPED_TRACE(ToString(message.type));
    const auto peek = PeekRequest(message.header);
    ASSERT_TRUE(peek.ok()) << peek.status();
    EXPECT_EQ(peek->type, message.type);
    EXPECT_TRUE(VerifyMac(context_.key, message.header, message.payload));
    EXPECT_EQ(ParseAllRequests(message.header, message.payload), 1);
  }
}

TEST_F(CodecTest, TruncatedRequestsAreRefused) {
  for (const Message& message : ValidRequests(context_, random_)) {
    SCOPED_TRACE(ToString(message.type));
    for (size_t size = 0; size < message.header.size(); ++size) {
      // A copy of its own, so that the sanitizer sees a read past its end.
      const Bytes part(message.header.begin(), message.header.begin() + static_cast<long>(size));
      EXPECT_FALSE(PeekRequest(part).ok());
      EXPECT_EQ(ParseAllRequests(part, message.payload), 0);
    }
    if (message.type == MessageType::kHello) continue;  // An address of any size.
    for (size_t size = 0; size < message.payload.size(); ++size) {
      const Bytes part(message.payload.begin(), message.payload.begin() + static_cast<long>(size));
      EXPECT_EQ(ParseAllRequests(message.header, part), 0) << size;
    }
    Bytes longer = message.payload;
    longer.push_back(std::byte{0});
    EXPECT_EQ(ParseAllRequests(message.header, longer), 0);
  }
}

TEST_F(CodecTest, MutatedRequestsNeverCrash) {
  const auto valid = ValidRequests(context_, random_);
  for (int round = 0; round < kRounds; ++round) {
    Message message = valid[random_() % valid.size()];
    for (uint64_t i = 0, n = 1 + random_() % 4; i < n; ++i) {
      Bytes& part =
          message.payload.empty() || random_() % 2 == 0 ? message.header : message.payload;
      part[random_() % part.size()] = static_cast<std::byte>(random_());
    }
    if (random_() % 4 == 0) message.header.resize(random_() % 120);
    if (random_() % 4 == 0) message.payload.resize(random_() % 400);
    EXPECT_LE(ParseAllRequests(message.header, message.payload), 1);
  }
}

TEST_F(CodecTest, EveryHeaderBitCountsForTheMac) {
  for (const Message& message : ValidRequests(context_, random_)) {
    SCOPED_TRACE(ToString(message.type));
    for (size_t i = 0; i < message.header.size(); ++i) {
      for (int bit = 0; bit < 8; ++bit) {
        Bytes changed = message.header;
        changed[i] ^= static_cast<std::byte>(1 << bit);
        // What PeekRequest refuses never gets as far as its MAC.
        if (!PeekRequest(changed).ok()) continue;
        EXPECT_FALSE(VerifyMac(context_.key, changed, message.payload)) << i;
      }
    }
    RequestContext other = context_;
    other.key[3] ^= std::byte{1};
    EXPECT_FALSE(VerifyMac(other.key, message.header, message.payload));
  }
}

TEST_F(CodecTest, TheMacCoversThePayloadOfHelloAndFetch) {
  for (const Message& message : ValidRequests(context_, random_)) {
    if (message.payload.empty()) continue;
    const bool covered = message.type == MessageType::kHello || message.type == MessageType::kFetch;
    for (size_t i = 0; i < message.payload.size(); ++i) {
      Bytes changed = message.payload;
      changed[i] ^= std::byte{1};
      EXPECT_EQ(VerifyMac(context_.key, message.header, changed), !covered)
          << ToString(message.type);
    }
  }
}

TEST_F(CodecTest, AppendStaysInOneBlock) {
  const auto parse = [&](uint64_t first, uint32_t count) {
    auto append = NewAppend(context_, 1);
    append.first_token = first;
    append.count = count;
    append.row_bytes = 4;
    append.kv_heads = 2;
    return ParseAppend(HeaderBytes(append), size_t{8} * count);
  };
  EXPECT_TRUE(parse(0, 64).ok());
  EXPECT_TRUE(parse(127, 1).ok());
  EXPECT_FALSE(parse(1, 64).ok());
  EXPECT_FALSE(parse(0, 65).ok());
  EXPECT_FALSE(parse(0, 0).ok());
  EXPECT_FALSE(parse(kMaxToken + 64, 1).ok());
  EXPECT_FALSE(parse(UINT64_MAX, 1).ok());
}

TEST_F(CodecTest, FetchCountsMustAgree) {
  FetchBuilder builder;
  const std::vector<uint32_t> tokens = {1, 2, 3};
  builder.Add(1, 1, 1, tokens);
  builder.Add(2, 1, 1, tokens);
  const auto header = builder.Finish(context_, 1, 512).value();
  Bytes payload = Copy(builder.payload());
  // The second group takes what the sum allows it, modulo 2^32.
  const uint32_t huge = UINT32_MAX;
  std::memcpy(payload.data() + offsetof(FetchGroup, count), &huge, sizeof(huge));
  const uint32_t rest = 7;
  std::memcpy(payload.data() + sizeof(FetchGroup) + offsetof(FetchGroup, count), &rest,
              sizeof(rest));
  EXPECT_FALSE(ParseFetch(HeaderBytes(header), payload).ok());
  payload = Copy(builder.payload());
  std::memset(payload.data() + offsetof(FetchGroup, count), 0, sizeof(uint32_t));
  EXPECT_THAT(passband::Message(ParseFetch(HeaderBytes(header), payload).status()),
              testing::HasSubstr("group 0"));
}

TEST_F(CodecTest, RepliesAnswerTheirRequest) {
  for (const Message& message : ValidRequests(context_, random_)) {
    if (message.type == MessageType::kBye) continue;
    const auto request = PeekRequest(message.header).value();
    if (message.type == MessageType::kHello) {
      auto ack = NewHelloAck(request);
      ack.max_reply_bytes = 1 << 20;
      ack.max_rows = 4096;
      ack.max_outstanding = 4;
      ack.block_tokens = 64;
      const auto parsed = ParseHelloAck(HeaderBytes(ack), 0);
      ASSERT_TRUE(parsed.ok()) << parsed.status();
      EXPECT_EQ(parsed->max_rows, 4096u);
      ack.max_rows = 0;
      EXPECT_FALSE(ParseHelloAck(HeaderBytes(ack), 0).ok());
      continue;
    }
    auto reply = NewReply(request);
    reply.payload_bytes = 1024;
    reply.rows = 2;
    reply.flags = kHasChecksum;
    reply.checksum = random_();
    const auto parsed = ParseReply(HeaderBytes(reply), reply.type, 1024);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->request_id, request.request_id);
    EXPECT_EQ(parsed->epoch, request.epoch);
    EXPECT_TRUE(ReplyStatus(*parsed, {}).ok());
    EXPECT_FALSE(ParseReply(HeaderBytes(reply), reply.type, 1023).ok());
    EXPECT_FALSE(ParseReply(HeaderBytes(reply), MessageType::kHelloAck, 1024).ok());
  }
}

TEST_F(CodecTest, RepliesCarryTheirError) {
  const auto read = NewRead(context_, 5);
  auto reply = NewReply(read.request);
  reply.rows = 3;
  const auto why =
      WithRetryAfter(Error(StatusCode::kResourceExhausted, "full: {}", std::string(1000, 'x')),
                     std::chrono::milliseconds(250));
  const std::string text = SetError(reply, why);
  EXPECT_EQ(text.size(), kMaxErrorText);
  const auto payload = std::as_bytes(std::span(text));
  const auto parsed = ParseReply(HeaderBytes(reply), MessageType::kReadReply, payload.size());
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->rows, 0u);
  const Status status = ReplyStatus(*parsed, payload);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(passband::Message(status), text);
  EXPECT_EQ(RetryAfter(status), std::chrono::milliseconds(250));
}

TEST_F(CodecTest, RepliesAreProvenByTheirMac) {
  auto reply = NewReply(NewRead(context_, 5).request);
  const std::string text = SetError(reply, Error(StatusCode::kNotFound, "no such sequence"));
  const auto payload = std::as_bytes(std::span(text));
  Sign(context_.key, reply, payload);
  EXPECT_TRUE(VerifyReplyMac(context_.key, HeaderBytes(reply), payload));
  EXPECT_FALSE(VerifyReplyMac(context_.key, HeaderBytes(reply), payload.subspan(1)));
  RequestContext other = context_;
  other.key[3] ^= std::byte{1};
  EXPECT_FALSE(VerifyReplyMac(other.key, HeaderBytes(reply), payload));
  for (size_t i = 0; i < sizeof(reply); ++i) {
    Bytes changed = Copy(HeaderBytes(reply));
    changed[i] ^= std::byte{1};
    EXPECT_FALSE(VerifyReplyMac(context_.key, changed, payload)) << i;
  }
  auto ack = NewHelloAck(NewHello(context_, 6, 7).request);
  ack.max_rows = 4096;
  Sign(context_.key, ack, {});
  EXPECT_TRUE(VerifyReplyMac(context_.key, HeaderBytes(ack), {}));
  ack.max_rows = 4097;
  EXPECT_FALSE(VerifyReplyMac(context_.key, HeaderBytes(ack), {}));
}

TEST_F(CodecTest, MutatedRepliesNeverCrash) {
  auto reply = NewReply(NewRead(context_, 5).request);
  reply.payload_bytes = 64;
  const Bytes valid = Copy(HeaderBytes(reply));
  for (size_t size = 0; size < valid.size(); ++size) {
    const Bytes part(valid.begin(), valid.begin() + static_cast<long>(size));
    EXPECT_EQ(ParseAllReplies(part, Bytes(64)), 0);
  }
  for (int round = 0; round < kRounds; ++round) {
    Bytes changed = valid;
    for (int i = 0; i < 3; ++i)
      changed[random_() % changed.size()] = static_cast<std::byte>(random_());
    EXPECT_LE(ParseAllReplies(changed, Bytes(64)), 1);
  }
}

}  // namespace
}  // namespace passband::transport
