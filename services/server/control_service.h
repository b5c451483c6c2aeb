// ControlService: the control plane's calls over gRPC. Each reads the request, makes one call of
// the domain, and writes the answer; it never waits, but for the disk
// when a profile is registered, or a pin is renewed or ended.
//
// Threads    safe; runs on gRPC's threads.
// Ownership  everything in Parts must outlive it.
// Errors     proto/passband/v1/control.proto lists them.
#pragma once

#include <atomic>
#include <string>

#include "kvstore/store.h"
#include "passband/v1/control.grpc.pb.h"
#include "services/server/answer_call.h"
#include "services/server/counters.h"
#include "services/server/data_plane.h"
#include "services/server/lifecycle.h"
#include "services/server/model_table.h"
#include "services/server/profile_table.h"
#include "services/server/rpc_counters.h"
#include "services/server/session_table.h"

namespace passband::server {

inline constexpr uint32_t kProtocolVersion = 1;

class ControlService final : public v1::Control::CallbackService {
 public:
  struct Parts {
    Store& store;
    SessionTable& sessions;
    ModelTable& models;
    ProfileTable& profiles;
    const DataPlane* ucx;  // null: rows do not travel over it
    bool data_grpc;        // they may travel over gRPC
    DataLimits limits;
    Counters& counters;
    RpcCounters& rpcs;
    Lifecycle& lifecycle;
    std::string http_address;
  };

  explicit ControlService(Parts parts);

  // Where it listens, once that is known: part of the server's name.
  void SetPort(uint16_t port) { port_ = port; }

 private:
  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  Reactor* Connect(Context*, const v1::ConnectRequest*, v1::ConnectResponse*) override;
  Reactor* Heartbeat(Context*, const v1::HeartbeatRequest*, v1::HeartbeatResponse*) override;
  Reactor* Disconnect(Context*, const v1::DisconnectRequest*, v1::DisconnectResponse*) override;

  Reactor* RegisterModel(Context*, const v1::RegisterModelRequest*,
                         v1::RegisterModelResponse*) override;
  Reactor* ListModels(Context*, const v1::ListModelsRequest*, v1::ListModelsResponse*) override;
  Reactor* RegisterProfile(Context*, const v1::RegisterProfileRequest*,
                           v1::RegisterProfileResponse*) override;
  Reactor* ListProfiles(Context*, const v1::ListProfilesRequest*,
                        v1::ListProfilesResponse*) override;

  Reactor* OpenSequence(Context*, const v1::OpenSequenceRequest*,
                        v1::OpenSequenceResponse*) override;
  Reactor* ForkSequence(Context*, const v1::ForkSequenceRequest*,
                        v1::ForkSequenceResponse*) override;
  Reactor* ExtendSequence(Context*, const v1::ExtendSequenceRequest*,
                          v1::ExtendSequenceResponse*) override;
  Reactor* TruncateSequence(Context*, const v1::TruncateSequenceRequest*,
                            v1::TruncateSequenceResponse*) override;
  Reactor* SealSequence(Context*, const v1::SealSequenceRequest*,
                        v1::SealSequenceResponse*) override;
  Reactor* PinSequence(Context*, const v1::PinSequenceRequest*, v1::PinSequenceResponse*) override;
  Reactor* UnpinSequence(Context*, const v1::UnpinSequenceRequest*,
                         v1::UnpinSequenceResponse*) override;
  Reactor* CloseSequence(Context*, const v1::CloseSequenceRequest*,
                         v1::CloseSequenceResponse*) override;
  Reactor* StatSequence(Context*, const v1::StatSequenceRequest*,
                        v1::StatSequenceResponse*) override;
  Reactor* ListSequences(Context*, const v1::ListSequencesRequest*,
                         v1::ListSequencesResponse*) override;
  Reactor* Lookup(Context*, const v1::LookupRequest*, v1::LookupResponse*) override;

  Reactor* Info(Context*, const v1::InfoRequest*, v1::InfoResponse*) override;

  // Runs body() -> Status, counts the call and finishes it.
  template <typename Body>
  Reactor* Answer(Context* context, Rpc rpc, const Body& body) {
    return AnswerCall(parts_.rpcs, *context, rpc, body);
  }
  // The same for a call of a session: body(const Session&).
  template <typename Body>
  Reactor* AnswerSession(Context* context, Rpc rpc, const Body& body);

  // The same for a call of the store's that ends later, on a thread of its own:
  // start(const Session&, void(const Status&)).
  template <typename Start>
  Reactor* AnswerLater(Context* context, Rpc rpc, const Start& start);

  template <typename Response>
  void AddCapabilities(Response& response) const;
  StatusOr<std::shared_ptr<const Session>> AuthenticateCall(const Context& context) const;
  Status CheckAdmitting() const;
  // A session that ended while it was given `id` must not keep it.
  Status KeepUnlessEnded(const Session& session, SequenceId id) const;
  void FillUsage(v1::InfoResponse& response) const;

  const Parts parts_;
  const std::string host_name_;
  std::atomic<uint16_t> port_{0};
};

}  // namespace passband::server
