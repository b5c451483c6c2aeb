#include "tests/services/grpc_client.h"

#include <cstring>
#include <fstream>
#include <future>

#include "base/hash.h"
#include "fmt/format.h"
#include "gtest/gtest.h"
#include "proto/data_frame.h"
#include "sdk/grpc_channel.h"

namespace passband::testing {
namespace {

using transport::MessageType;

const char* MethodOf(MessageType type) {
  switch (type) {
    case MessageType::kFetch:
      return "/passband.v1.Data/Fetch";
    case MessageType::kAppend:
      return "/passband.v1.Data/Append";
    case MessageType::kSlices:
      return "/passband.v1.Data/Slices";
    default:
      return "/passband.v1.Data/Read";
  }
}

// As they are, unchecked: expired ones too.
std::string ReadAll(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::shared_ptr<grpc::Channel> ChannelTo(const std::string& address, const TlsFiles& files) {
  GrpcTarget target{.address = address, .tls = {}, .server_name = ""};
  if (!files.empty()) {
    target.tls = {.ca = ReadAll(files.ca),
                  .certificate = ReadAll(files.certificate),
                  .key = ReadAll(files.key)};
  }
  return MakeGrpcChannel(target, 64 << 20);
}

}  // namespace

grpc::ByteBuffer ToBuffer(std::span<const std::byte> bytes) {
  const grpc::Slice slice(bytes.data(), bytes.size());
  return {&slice, 1};
}

GrpcClient::GrpcClient(const std::string& address, const TlsFiles& tls)
    : channel_(ChannelTo(address, tls)),
      control_(v1::Control::NewStub(channel_)),
      generic_(channel_) {}

grpc::Status GrpcClient::Connect(const std::string& tenant) {
  v1::ConnectRequest request;
  request.set_protocol_version(1);
  request.set_tenant(tenant);
  request.set_client("grpc client");
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  grpc::Status status = control_->Connect(&context, request, &session_);
  if (!status.ok()) return status;
  credentials_.session = fmt::format("{:016x}", session_.session());
  credentials_.token = session_.token();
  credentials_.identity.session = session_.session();
  credentials_.identity.epoch = session_.epoch();
  EXPECT_EQ(session_.secret().size(), credentials_.identity.key.size());
  std::memcpy(credentials_.identity.key.data(), session_.secret().data(),
              credentials_.identity.key.size());
  return status;
}

std::unique_ptr<grpc::ClientContext> GrpcClient::Context() const {
  auto context = std::make_unique<grpc::ClientContext>();
  if (!credentials_.session.empty()) {
    context->AddMetadata("passband-session", credentials_.session);
    context->AddMetadata("passband-token", credentials_.token);
  }
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  return context;
}

GrpcClient::Answer GrpcClient::Send(const std::string& method, const grpc::ByteBuffer& message,
                                    Milliseconds deadline) {
  Answer answer;
  last_sent_ = {method, message};
  const auto context = Context();
  context->set_deadline(std::chrono::system_clock::now() + deadline);
  grpc::ByteBuffer response;
  std::promise<grpc::Status> ended;
  generic_.UnaryCall(context.get(), method, grpc::StubOptions(), &message, &response,
                     [&](grpc::Status status) { ended.set_value(std::move(status)); });
  answer.status = ended.get_future().get();
  answer.has_epoch = context->GetServerTrailingMetadata().contains("passband-epoch");
  answer.has_retry_after = context->GetServerTrailingMetadata().contains("passband-retry-after-ms");
  if (!answer.status.ok() || method.find(".Data/") == std::string::npos) return answer;
  FrameReader reader(response);
  EXPECT_TRUE(reader.ReadHeader());
  EXPECT_EQ(reader.header().size(), sizeof(answer.header));
  std::memcpy(&answer.header, reader.header().data(), sizeof(answer.header));
  answer.payload.resize(reader.payload_bytes());
  EXPECT_TRUE(reader.ReadPayload(answer.payload.data()));
  return answer;
}

GrpcClient::Answer GrpcClient::Call(MessageType type, std::span<const std::byte> header,
                                    std::span<const std::byte> payload, Milliseconds deadline) {
  const grpc::Slice slice =
      payload.empty() ? grpc::Slice() : grpc::Slice(payload.data(), payload.size());
  return Send(MethodOf(type), Frame(header, slice), deadline);
}

GrpcClient::Answer GrpcClient::Append(uint64_t sequence, uint16_t layer, uint64_t first,
                                      uint32_t count, const Bytes& rows) {
  auto append = transport::NewAppend(credentials_.identity, NextId());
  append.sequence = sequence;
  append.first_token = first;
  append.count = count;
  append.row_bytes = static_cast<uint32_t>(rows.size() / (count * 2));
  append.layer = layer;
  append.kv_heads = 2;
  append.checksum = Checksum(rows);
  transport::Sign(credentials_.identity.key, append);
  return Call(MessageType::kAppend, transport::HeaderBytes(append), rows);
}

GrpcClient::Answer GrpcClient::Fetch(uint64_t sequence, uint16_t layer, uint16_t kv_head,
                                     const std::vector<uint32_t>& tokens, uint32_t row_bytes) {
  transport::FetchBuilder builder;
  builder.Add(sequence, layer, kv_head, tokens);
  auto fetch = builder.Finish(credentials_.identity, NextId(), row_bytes);
  EXPECT_TRUE(fetch.ok()) << fetch.status();
  transport::Sign(credentials_.identity.key, *fetch, builder.payload());
  return Call(MessageType::kFetch, transport::HeaderBytes(*fetch), builder.payload());
}

GrpcClient::Answer GrpcClient::Slices(uint64_t sequence, uint64_t profile, uint16_t layer,
                                      uint64_t first, uint32_t count) {
  auto slices = transport::NewSlices(credentials_.identity, NextId());
  slices.sequence = sequence;
  slices.profile = profile;
  slices.first_token = first;
  slices.count = count;
  slices.layer = layer;
  transport::Sign(credentials_.identity.key, slices);
  return Call(MessageType::kSlices, transport::HeaderBytes(slices));
}

transport::ReadHeader GrpcClient::NewRead(uint64_t sequence, uint32_t count) {
  auto read = transport::NewRead(credentials_.identity, NextId());
  read.sequence = sequence;
  read.count = count;
  return read;
}

GrpcClient::Answer GrpcClient::Read(uint64_t sequence, uint16_t layer, uint64_t first,
                                    uint32_t count) {
  auto read = NewRead(sequence, count);
  read.first_token = first;
  read.layer = layer;
  transport::Sign(credentials_.identity.key, read);
  return Call(MessageType::kRead, transport::HeaderBytes(read));
}

}  // namespace passband::testing
