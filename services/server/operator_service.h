// OperatorService: what whoever runs the server asks of it over gRPC. It sees the sequences of
// all tenants, but never their rows or tokens.
//
// There is no session. Until callers prove who they are, the place they call from decides: this
// machine, unless the settings say that any will do.
//
// Threads    safe; runs on gRPC's threads.
// Ownership  everything in Parts must outlive it.
// Errors     proto/passband/v1/operator.proto lists them.
#pragma once

#include <string>

#include "kvstore/store.h"
#include "passband/v1/operator.grpc.pb.h"
#include "services/server/lifecycle.h"
#include "services/server/model_table.h"
#include "services/server/rpc_counters.h"
#include "services/server/session_table.h"

namespace passband::server {

class OperatorService final : public v1::Operator::CallbackService {
 public:
  struct Parts {
    Store& store;
    const SessionTable& sessions;
    const ModelTable& models;
    RpcCounters& rpcs;
    Lifecycle& lifecycle;
    bool from_anywhere = false;
  };

  explicit OperatorService(Parts parts) : parts_(std::move(parts)) {}

 private:
  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  Reactor* ListAllSequences(Context*, const v1::ListAllSequencesRequest*,
                            v1::ListAllSequencesResponse*) override;
  Reactor* InspectSequence(Context*, const v1::InspectSequenceRequest*,
                           v1::InspectSequenceResponse*) override;
  Reactor* Drain(Context*, const v1::DrainRequest*, v1::DrainResponse*) override;

  // Runs body() -> Status for who may call.
  template <typename Body>
  Reactor* Answer(Context* context, Rpc rpc, const Body& body);
  Status Inspect(SequenceId id, v1::InspectSequenceResponse& response) const;

  const Parts parts_;
};

// Whether gRPC's name of a peer ("ipv4:127.0.0.1:4711") is of this machine.
bool IsLocalPeer(const std::string& peer);

}  // namespace passband::server
