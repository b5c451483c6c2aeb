// RawClient: the least that can talk to a server: a gRPC stub, and a UCX endpoint over which any
// bytes can be sent, right or wrong.
//
// Threads  one.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "passband/v1/control.grpc.pb.h"
#include "transport/codec.h"
#include "transport/ucx_endpoint.h"
#include "transport/ucx_worker.h"

namespace passband::testing {

using Bytes = std::vector<std::byte>;

struct RawReply {
  Status status;  // what the reply says
  transport::ReplyHeader header{};
  Bytes payload;
};

class RawClient {
 public:
  static constexpr std::chrono::seconds kPatience{20};

  // Connects over gRPC, not yet to the data plane. `tls`: UCX's transport list.
  RawClient(const std::string& control_address, const std::string& tenant,
            const std::string& tls = "auto");
  ~RawClient();

  v1::Control::Stub& stub() { return *stub_; }
  // Carries this session, or the given texts instead.
  std::unique_ptr<grpc::ClientContext> Context() const;
  static std::unique_ptr<grpc::ClientContext> Context(const std::string& session,
                                                      const std::string& token);
  const v1::ConnectResponse& session() const { return session_; }
  const transport::RequestContext& identity() const { return identity_; }
  uint64_t NextId() { return ++last_id_; }

  // The data plane: connects and says HELLO. The acknowledgement's status.
  Status Hello();
  // Destroys the endpoint and the worker, without a word to the server.
  void Vanish();

  // Sends these very bytes. `refused`: gets the sender's own outcome, if wanted.
  void Send(transport::MessageType type, std::span<const std::byte> header,
            std::span<const std::byte> payload,
            transport::SendMode mode = transport::SendMode::kEager);
  // The reply to `request_id`; nullopt when none comes in `patience`.
  std::optional<RawReply> Await(uint64_t request_id, Duration patience = kPatience);
  // Progresses until `condition`, or patience is over.
  bool Wait(const std::function<bool()>& condition, Duration patience = kPatience);

  // Whole, well-formed requests.
  RawReply Append(uint64_t sequence, uint16_t layer, uint64_t first, uint32_t count,
                  uint16_t kv_heads, uint32_t row_bytes, const Bytes& rows,
                  transport::SendMode mode = transport::SendMode::kAuto);
  RawReply Fetch(const std::function<void(transport::FetchBuilder&)>& fill, uint32_t row_bytes,
                 uint8_t flags = 0);
  RawReply Slices(uint64_t sequence, uint64_t profile, uint16_t layer, uint64_t first,
                  uint32_t count);
  RawReply Read(uint64_t sequence, uint16_t layer, uint64_t first, uint32_t count);

  size_t outstanding_sends() const { return outstanding_sends_; }

 private:
  Status ConnectData();
  void OnReply(transport::IncomingMessage& message);
  RawReply MustAwait(uint64_t request_id);

  const std::string tls_;
  std::unique_ptr<v1::Control::Stub> stub_;
  v1::ConnectResponse session_;
  transport::RequestContext identity_;
  uint64_t last_id_ = 0;
  size_t outstanding_sends_ = 0;
  std::map<uint64_t, RawReply> replies_;
  std::map<uint64_t, std::shared_ptr<RawReply>> arriving_;
  std::shared_ptr<transport::UcxContext> ucx_;
  std::shared_ptr<transport::UcxWorker> worker_;
  std::unique_ptr<transport::UcxEndpoint> endpoint_;
};

}  // namespace passband::testing
