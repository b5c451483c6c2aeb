#include "tests/services/raw_client.h"

#include <cstring>

#include "base/hash.h"
#include "fmt/format.h"
#include "gtest/gtest.h"

namespace passband::testing {

using transport::MessageType;
using transport::SendMode;

namespace {

constexpr MessageType kReplies[] = {MessageType::kHelloAck, MessageType::kFetchReply,
                                    MessageType::kAppendAck, MessageType::kSlicesReply,
                                    MessageType::kReadReply};

}  // namespace

RawClient::RawClient(const std::string& control_address, const std::string& tenant,
                     const std::string& tls)
    : tls_(tls),
      stub_(v1::Control::NewStub(
          grpc::CreateChannel(control_address, grpc::InsecureChannelCredentials()))) {
  v1::ConnectRequest request;
  request.set_protocol_version(1);
  request.set_tenant(tenant);
  request.set_client("raw client");
  grpc::ClientContext context;
  const grpc::Status status = stub_->Connect(&context, request, &session_);
  EXPECT_TRUE(status.ok()) << status.error_message();
  if (!status.ok()) return;
  identity_.session = session_.session();
  identity_.epoch = session_.epoch();
  EXPECT_EQ(session_.secret().size(), identity_.key.size());
  std::memcpy(identity_.key.data(), session_.secret().data(), identity_.key.size());
}

RawClient::~RawClient() { Vanish(); }

void RawClient::Vanish() {
  endpoint_.reset();
  worker_.reset();
}

std::unique_ptr<grpc::ClientContext> RawClient::Context(const std::string& session,
                                                        const std::string& token) {
  auto context = std::make_unique<grpc::ClientContext>();
  context->AddMetadata("passband-session", session);
  context->AddMetadata("passband-token", token);
  context->set_deadline(std::chrono::system_clock::now() + kPatience);
  return context;
}

std::unique_ptr<grpc::ClientContext> RawClient::Context() const {
  return Context(fmt::format("{:016x}", session_.session()), session_.token());
}

Status RawClient::ConnectData() {
  PASSBAND_ASSIGN_OR_RETURN(ucx_, transport::UcxContext::Create({.tls = tls_}));
  PASSBAND_ASSIGN_OR_RETURN(worker_, transport::UcxWorker::Create(ucx_));
  for (const MessageType type : kReplies) {
    PASSBAND_RETURN_IF_ERROR(worker_->SetHandler(
        transport::AmId(type), [this](transport::IncomingMessage& message) { OnReply(message); }));
  }
  const auto address =
      std::as_bytes(std::span(session_.data_address().data(), session_.data_address().size()));
  PASSBAND_ASSIGN_OR_RETURN(
      endpoint_, transport::UcxEndpoint::Connect(worker_, address, [](const Status&) {}));
  return OkStatus();
}

Status RawClient::Hello() {
  if (endpoint_ == nullptr) PASSBAND_RETURN_IF_ERROR(ConnectData());
  const uint64_t id = NextId();
  auto hello = transport::NewHello(identity_, id, id);
  const auto address = worker_->address();
  transport::Sign(identity_.key, hello, address);
  Send(MessageType::kHello, transport::HeaderBytes(hello), address);
  const auto reply = Await(id);
  if (!reply.has_value()) return Error(StatusCode::kDeadlineExceeded, "no HELLO_ACK");
  return reply->status;
}

void RawClient::Send(MessageType type, std::span<const std::byte> header,
                     std::span<const std::byte> payload, SendMode mode) {
  auto copy = std::make_shared<Bytes>(payload.begin(), payload.end());
  ++outstanding_sends_;
  endpoint_->Send(transport::AmId(type), header, *copy, {.mode = mode},
                  [this, copy](const Status&) { --outstanding_sends_; });
}

void RawClient::OnReply(transport::IncomingMessage& message) {
  auto reply = std::make_shared<RawReply>();
  ASSERT_GE(message.header().size(), sizeof(transport::ReplyHeader));
  std::memcpy(&reply->header, message.header().data(), sizeof(transport::ReplyHeader));
  const auto parsed =
      transport::ParseReply(message.header(), reply->header.type, message.payload_bytes());
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  const uint64_t id = reply->header.request_id;
  const Bytes header(message.header().begin(), message.header().end());
  EXPECT_EQ(replies_.count(id) + arriving_.count(id), 0U) << "two answers to " << id;
  reply->payload.resize(message.payload_bytes());
  arriving_[id] = reply;
  message.Receive(reply->payload, nullptr, [this, reply, id, header](const Status& received) {
    EXPECT_TRUE(received.ok()) << received;
    const auto text = reply->header.code == 0 ? std::span<const std::byte>() : reply->payload;
    EXPECT_TRUE(transport::VerifyReplyMac(identity_.key, header, text));
    reply->status = transport::ReplyStatus(reply->header, reply->payload);
    replies_[id] = std::move(*reply);
    arriving_.erase(id);
  });
}

bool RawClient::Wait(const std::function<bool()>& condition, Duration patience) {
  const Time end = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    if (worker_ != nullptr) worker_->WaitForEvent(std::chrono::milliseconds(5));
  }
  return true;
}

std::optional<RawReply> RawClient::Await(uint64_t request_id, Duration patience) {
  if (!Wait([&] { return replies_.count(request_id) > 0; }, patience)) return std::nullopt;
  RawReply reply = std::move(replies_[request_id]);
  replies_.erase(request_id);
  return reply;
}

RawReply RawClient::MustAwait(uint64_t request_id) {
  auto reply = Await(request_id);
  if (reply.has_value()) return *std::move(reply);
  return {.status = Error(StatusCode::kDeadlineExceeded, "no answer"), .header = {}, .payload = {}};
}

RawReply RawClient::Append(uint64_t sequence, uint16_t layer, uint64_t first, uint32_t count,
                           uint16_t kv_heads, uint32_t row_bytes, const Bytes& rows,
                           SendMode mode) {
  auto append = transport::NewAppend(identity_, NextId());
  append.sequence = sequence;
  append.first_token = first;
  append.count = count;
  append.row_bytes = row_bytes;
  append.layer = layer;
  append.kv_heads = kv_heads;
  append.checksum = Checksum(rows);
  transport::Sign(identity_.key, append);
  Send(MessageType::kAppend, transport::HeaderBytes(append), rows, mode);
  return MustAwait(append.request.request_id);
}

RawReply RawClient::Fetch(const std::function<void(transport::FetchBuilder&)>& fill,
                          uint32_t row_bytes, uint8_t flags) {
  transport::FetchBuilder builder;
  fill(builder);
  auto fetch = builder.Finish(identity_, NextId(), row_bytes);
  EXPECT_TRUE(fetch.ok()) << fetch.status();
  fetch->request.flags = flags;
  fetch->selected_rows = 2 * builder.row_count();
  fetch->hot_rows = builder.row_count();
  fetch->full_attention_bytes = uint64_t{100} * builder.row_count() * row_bytes;
  transport::Sign(identity_.key, *fetch, builder.payload());
  Send(MessageType::kFetch, transport::HeaderBytes(*fetch), builder.payload());
  return MustAwait(fetch->request.request_id);
}

RawReply RawClient::Slices(uint64_t sequence, uint64_t profile, uint16_t layer, uint64_t first,
                           uint32_t count) {
  auto slices = transport::NewSlices(identity_, NextId());
  slices.sequence = sequence;
  slices.profile = profile;
  slices.first_token = first;
  slices.count = count;
  slices.layer = layer;
  transport::Sign(identity_.key, slices);
  Send(MessageType::kSlices, transport::HeaderBytes(slices), {});
  return MustAwait(slices.request.request_id);
}

RawReply RawClient::Read(uint64_t sequence, uint16_t layer, uint64_t first, uint32_t count) {
  auto read = transport::NewRead(identity_, NextId());
  read.sequence = sequence;
  read.first_token = first;
  read.count = count;
  read.layer = layer;
  transport::Sign(identity_.key, read);
  Send(MessageType::kRead, transport::HeaderBytes(read), {});
  return MustAwait(read.request.request_id);
}

}  // namespace passband::testing
