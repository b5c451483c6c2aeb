// GrpcClient: the least that can talk to a server over gRPC alone: any bytes, to any method, with
// or without a certificate and a session.
//
// Threads  one.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/tls_files.h"
#include "passband/v1/control.grpc.pb.h"
#include "tests/services/raw_client.h"
#include "transport/codec.h"

namespace passband::testing {

class GrpcClient {
 public:
  using Milliseconds = std::chrono::milliseconds;
  // What says who calls; each part may be somebody else's.
  struct Credentials {
    std::string session;  // metadata; both empty: none
    std::string token;
    transport::RequestContext identity;
  };
  struct Answer {
    grpc::Status status;
    bool has_epoch = false;  // the server itself answered
    bool has_retry_after = false;
    transport::ReplyHeader header{};
    Bytes payload;
  };

  struct Sent {
    std::string method;
    grpc::ByteBuffer message;
  };

  // No files: no encryption.
  explicit GrpcClient(const std::string& address, const TlsFiles& tls = {});

  // Starts a session, which is `credentials` from then on.
  grpc::Status Connect(const std::string& tenant);
  const v1::ConnectResponse& session() const { return session_; }
  Credentials& credentials() { return credentials_; }
  uint64_t NextId() { return ++last_id_; }
  v1::Control::Stub& control() { return *control_; }
  std::unique_ptr<grpc::ClientContext> Context() const;

  // Sends `message` to "/package.Service/Method", and waits.
  Answer Send(const std::string& method, const grpc::ByteBuffer& message,
              Milliseconds deadline = Milliseconds(20'000));
  // The message of the last Send.
  const Sent& last_sent() const { return last_sent_; }
  // A DataRequest of these bytes, to the method of `type`.
  Answer Call(transport::MessageType type, std::span<const std::byte> header,
              std::span<const std::byte> payload = {},
              Milliseconds deadline = Milliseconds(20'000));

  // Whole, well-formed requests, signed with the credentials' key.
  Answer Append(uint64_t sequence, uint16_t layer, uint64_t first, uint32_t count,
                const Bytes& rows);
  Answer Fetch(uint64_t sequence, uint16_t layer, uint16_t kv_head,
               const std::vector<uint32_t>& tokens, uint32_t row_bytes);
  Answer Slices(uint64_t sequence, uint64_t profile, uint16_t layer, uint64_t first,
                uint32_t count);
  Answer Read(uint64_t sequence, uint16_t layer, uint64_t first, uint32_t count);
  transport::ReadHeader NewRead(uint64_t sequence, uint32_t count);

 private:
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Control::Stub> control_;
  grpc::GenericStub generic_;
  v1::ConnectResponse session_;
  Credentials credentials_;
  Sent last_sent_;
  uint64_t last_id_ = 0;
};

grpc::ByteBuffer ToBuffer(std::span<const std::byte> bytes);

}  // namespace passband::testing
