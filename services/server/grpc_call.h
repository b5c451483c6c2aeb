// GrpcCall: one call of the data plane over gRPC, from its arrival to its status.
//
// gRPC's own object for a call lives until the call has its status, and gRPC waits for it; so one
// that nobody answers is answered when this is destroyed.
//
// Units      bytes.
// Threads    made and read on a thread of gRPC, then its data thread's. Cancellation, and the end
//            of a reply's bytes, come on any thread.
// Ownership  shared by whoever serves it. A reply's bytes are gRPC's until they are written; they
//            come back through the mailbox.
// Errors     Read: kInvalidArgument for what is not a message of ours.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <vector>

#include "proto/data_frame.h"
#include "services/server/incoming_payload.h"
#include "services/server/reply_path.h"

namespace passband::server {

// Trailing metadata of every error of ours: the client tells it from one of gRPC's.
inline constexpr char kEpochMetadata[] = "passband-epoch";

class GrpcMailbox;

// The message of a call. Its payload is always here.
class GrpcPayload final : public IncomingPayload {
 public:
  explicit GrpcPayload(const grpc::ByteBuffer& message) : message_(message), reader_(message_) {}

  // Once, before all else. False: not a message of ours.
  bool ReadHeader() { return reader_.ReadHeader(); }
  std::span<const std::byte> header() const { return reader_.header(); }

  size_t bytes() const override { return reader_.payload_bytes(); }
  bool waits() const override { return false; }
  std::span<const std::byte> data() override;
  // Straight from gRPC's buffers, unless data() was asked for before.
  void Receive(std::span<std::byte> into, const transport::UcxMemory* memory,
               transport::Done done) override;
  void Refuse(const Status& why) override;

 private:
  grpc::ByteBuffer message_;
  FrameReader reader_;
  std::vector<std::byte> copy_;
};

class GrpcCall final : public ReplyPath {
 public:
  // `request` and `response` are gRPC's.
  GrpcCall(grpc::CallbackServerContext& context, const grpc::ByteBuffer& request,
           grpc::ByteBuffer& response, uint64_t epoch);
  ~GrpcCall() override;
  GrpcCall(const GrpcCall&) = delete;
  GrpcCall& operator=(const GrpcCall&) = delete;

  // What a method of the service returns. Take it before anybody can answer.
  grpc::ServerUnaryReactor* reactor() const;

  // The header of a `type`, once. Its deadline is the earlier of the message's and the call's.
  StatusOr<transport::RequestHeader> Read(transport::MessageType type);
  GrpcPayload& payload() { return payload_; }
  // Where the bytes of replies come back to; before Send.
  void SetMailbox(std::shared_ptr<GrpcMailbox> mailbox) { mailbox_ = std::move(mailbox); }
  // Answers with an error, unless it is answered.
  void Fail(const Status& why);

  bool open() const override;
  void Send(const transport::ReplyHeader& reply, std::span<const std::byte> payload,
            const transport::UcxMemory* memory, transport::Done done) override;
  void SendError(const transport::ReplyHeader& reply, const Status& status) override;

 private:
  class Reactor;

  GrpcPayload payload_;
  std::shared_ptr<GrpcMailbox> mailbox_;
  Reactor* reactor_;  // null once it is answered: then it is gRPC's alone
};

}  // namespace passband::server
