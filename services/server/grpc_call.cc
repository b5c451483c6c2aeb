#include "services/server/grpc_call.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>

#include "base/hash.h"
#include "services/grpc_status.h"
#include "services/server/grpc_mailbox.h"
#include "transport/codec.h"

namespace passband::server {
namespace {

// What the call's own deadline leaves; 0: it has none.
uint32_t MicrosecondsLeft(const grpc::CallbackServerContext& context) {
  using Clock = std::chrono::system_clock;
  const Clock::time_point deadline = context.deadline();
  const Clock::time_point now = Clock::now();
  // gRPC's "none" is far from any clock's end.
  if (deadline > now + std::chrono::hours(1)) return 0;
  const auto left = std::chrono::duration_cast<std::chrono::microseconds>(deadline - now).count();
  return static_cast<uint32_t>(std::max<int64_t>(left, 1));
}

// Goes with the slice that gRPC writes from.
struct Sent {
  std::shared_ptr<GrpcMailbox> mailbox;
  transport::Done done;
};

grpc::Slice Lend(std::span<const std::byte> payload, std::shared_ptr<GrpcMailbox> mailbox,
                 transport::Done done) {
  mailbox->AddLent();
  auto sent = std::make_unique<Sent>(Sent{std::move(mailbox), std::move(done)});
  // gRPC only reads it.
  return {const_cast<std::byte*>(payload.data()), payload.size(),
          [](void* raw) {
            const std::unique_ptr<Sent> back(static_cast<Sent*>(raw));
            back->mailbox->Return(std::move(back->done));
          },
          sent.release()};
}

}  // namespace

std::span<const std::byte> GrpcPayload::data() {
  if (copy_.empty() && bytes() > 0) {
    copy_.resize(bytes());
    // Its length was checked with the header; then it cannot be cut short.
    PASSBAND_CHECK(reader_.ReadPayload(copy_.data()));
  }
  return copy_;
}

void GrpcPayload::Receive(std::span<std::byte> into, const transport::UcxMemory*,
                          transport::Done done) {
  if (into.size() < bytes()) {
    return std::move(done)(Error(StatusCode::kInvalidArgument,
                                 "a payload of {} bytes for a place of {}", bytes(), into.size()));
  }
  if (!copy_.empty()) {
    std::copy(copy_.begin(), copy_.end(), into.begin());
  } else {
    PASSBAND_CHECK(reader_.ReadPayload(into.data()));
  }
  std::move(done)(OkStatus());
}

void GrpcPayload::Refuse(const Status&) {}

class GrpcCall::Reactor final : public grpc::ServerUnaryReactor {
 public:
  Reactor(grpc::CallbackServerContext& context, grpc::ByteBuffer& response, uint64_t epoch)
      : context_(context), response_(response), epoch_(epoch) {}

  const grpc::CallbackServerContext& context() const { return context_; }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

  // Each ends it: gRPC may destroy it at once.
  void Succeed(grpc::ByteBuffer response) {
    response_ = std::move(response);
    Finish(grpc::Status::OK);
  }
  void Fail(const Status& why) {
    context_.AddTrailingMetadata(kEpochMetadata, std::to_string(epoch_));
    Finish(StatusToGrpc(why, context_));
  }

 private:
  void OnCancel() override { cancelled_.store(true, std::memory_order_relaxed); }
  void OnDone() override { delete this; }

  grpc::CallbackServerContext& context_;
  grpc::ByteBuffer& response_;
  const uint64_t epoch_;
  std::atomic<bool> cancelled_{false};
};

GrpcCall::GrpcCall(grpc::CallbackServerContext& context, const grpc::ByteBuffer& request,
                   grpc::ByteBuffer& response, uint64_t epoch)
    : payload_(request), reactor_(new Reactor(context, response, epoch)) {}

GrpcCall::~GrpcCall() { Fail(Error(StatusCode::kCancelled, "the server gave the request up")); }

grpc::ServerUnaryReactor* GrpcCall::reactor() const { return reactor_; }

StatusOr<transport::RequestHeader> GrpcCall::Read(transport::MessageType type) {
  if (!payload_.ReadHeader()) {
    return Error(StatusCode::kInvalidArgument, "the message is not a DataRequest");
  }
  PASSBAND_ASSIGN_OR_RETURN(transport::RequestHeader header,
                            transport::PeekRequest(payload_.header()));
  if (header.type != type) {
    return Error(StatusCode::kInvalidArgument, "a {} where a {} belongs",
                 transport::ToString(header.type), transport::ToString(type));
  }
  const uint32_t left = MicrosecondsLeft(reactor_->context());
  if (left != 0 && (header.deadline_us == 0 || left < header.deadline_us)) {
    header.deadline_us = left;
  }
  return header;
}

bool GrpcCall::open() const { return reactor_ != nullptr && !reactor_->cancelled(); }

void GrpcCall::Send(const transport::ReplyHeader& reply, std::span<const std::byte> payload,
                    const transport::UcxMemory*, transport::Done done) {
  if (!open()) {
    const Status gone = Error(StatusCode::kCancelled, "the call was cancelled");
    Fail(gone);
    return std::move(done)(gone);
  }
  Reactor* const reactor = std::exchange(reactor_, nullptr);
  const auto header = transport::HeaderBytes(reply);
  if (payload.empty()) {
    reactor->Succeed(Frame(header, grpc::Slice()));
    return std::move(done)(OkStatus());
  }
  reactor->Succeed(Frame(header, Lend(payload, mailbox_, std::move(done))));
}

void GrpcCall::SendError(const transport::ReplyHeader&, const Status& status) { Fail(status); }

void GrpcCall::Fail(const Status& why) {
  if (reactor_ != nullptr) std::exchange(reactor_, nullptr)->Fail(why);
}

}  // namespace passband::server
