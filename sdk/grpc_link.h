// GrpcLink: a DataLink of gRPC calls: one for each call of the channel (data.proto).
//
// gRPC's threads put what has ended into an inbox; whoever drives the link takes it from there,
// and moves the rows into their landing memory.
//
// Threads    data_link.h.
// Ownership  rows to store are sent from where they lie: their call stays until gRPC has let go
//            of it. The destructor cancels what is under way.
// Errors     data_link.h. kUnavailable without the server's epoch in the trailing metadata is
//            gRPC's own: the connection is lost. So is the session with kUnauthenticated.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "sdk/data_link.h"
#include "sdk/grpc_channel.h"

namespace passband {

class GrpcLink final : public DataLink {
 public:
  // `max_reply_bytes`: of rows.
  GrpcLink(const GrpcTarget& target, uint64_t max_reply_bytes);
  ~GrpcLink() override;

  bool Progress() override;
  StatusOr<bool> Arm() override;
  int event_fd() const override;

  Status Connect(Handlers handlers) override;
  void Send(const CallPtr& call) override;
  // Each is a stream of its own.
  bool ordered() const override { return false; }
  void Cancel(const Call& call) override;
  void Close() override;
  bool connected() const override { return connected_; }
  size_t outstanding() const override { return flights_.size(); }
  std::span<const std::byte> hello() const override { return {}; }
  std::string transport() const override { return encrypted_ ? "grpc+tls" : "grpc"; }
  std::shared_ptr<transport::UcxContext> ucx() const override { return nullptr; }

 private:
  struct Flight;
  struct Inbox;
  struct Stub;

  void Land(Flight& flight);

  const bool encrypted_;
  const std::unique_ptr<Stub> stub_;
  const std::shared_ptr<Inbox> inbox_;
  Handlers handlers_;
  bool connected_ = false;
  std::unordered_map<const Call*, std::shared_ptr<Flight>> flights_;
};

}  // namespace passband
