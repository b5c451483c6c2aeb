// OperatorService: what whoever runs the server asks of it over gRPC. It sees the sequences of
// all tenants, but never their rows or tokens.
//
// There is no session: operator_policy.h says who may call. Who drains is logged.
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
#include "services/server/operator_policy.h"
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
    OperatorPolicy policy;
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

  // Runs body(name of the operator) -> Status for who may call.
  template <typename Body>
  Reactor* Answer(Context* context, Rpc rpc, const Body& body);
  Status Inspect(SequenceId id, v1::InspectSequenceResponse& response) const;

  const Parts parts_;
};

}  // namespace passband::server
