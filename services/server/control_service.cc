#include "services/server/control_service.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/log.h"
#include "base/version.h"
#include "services/server/control_messages.h"
#include "services/server/peer_identity.h"

namespace passband::server {
namespace {

constexpr v1::Capability kCapabilities[] = {v1::CAPABILITY_FETCH, v1::CAPABILITY_SLICES,
                                            v1::CAPABILITY_READ, v1::CAPABILITY_REPLY_CHECKSUM,
                                            v1::CAPABILITY_LIFETIMES};
constexpr uint32_t kDefaultListed = 1000;

std::string Metadata(const grpc::CallbackServerContext& context, const char* key) {
  const auto& all = context.client_metadata();
  const auto found = all.find(key);
  return found == all.end() ? "" : std::string(found->second.data(), found->second.size());
}

std::string AsString(std::span<const std::byte> bytes) {
  std::string out(bytes.size(), '\0');
  std::transform(bytes.begin(), bytes.end(), out.begin(),
                 [](std::byte byte) { return static_cast<char>(byte); });
  return out;
}

uint64_t Milliseconds(Duration duration) {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

// What is too long to be told stays so.
Duration FromMilliseconds(uint64_t ms) {
  constexpr auto kMost = std::chrono::duration_cast<std::chrono::milliseconds>(kMaxTtl);
  return std::chrono::milliseconds(
      std::min<uint64_t>(ms, static_cast<uint64_t>(kMost.count()) + 1000));
}

template <typename Repeated>
std::span<const uint32_t> Tokens(const Repeated& ids) {
  return {ids.data(), static_cast<size_t>(ids.size())};
}

// Empty when it cannot be told.
std::string HostName() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

}  // namespace

ControlService::ControlService(Parts parts) : parts_(std::move(parts)), host_name_(HostName()) {}

StatusOr<std::shared_ptr<const Session>> ControlService::AuthenticateCall(
    const Context& context) const {
  PASSBAND_ASSIGN_OR_RETURN(std::shared_ptr<const Session> session,
                            parts_.sessions.Authenticate(Metadata(context, "passband-session"),
                                                         Metadata(context, "passband-token")));
  PASSBAND_RETURN_IF_ERROR(CheckCertificate(*session, *context.auth_context()));
  return session;
}

template <typename Body>
grpc::ServerUnaryReactor* ControlService::AnswerSession(Context* context, Rpc rpc,
                                                        const Body& body) {
  return Answer(context, rpc, [&]() -> Status {
    PASSBAND_ASSIGN_OR_RETURN(const auto session, AuthenticateCall(*context));
    return body(*session);
  });
}

template <typename Response>
void ControlService::AddCapabilities(Response& response) const {
  for (const v1::Capability capability : kCapabilities) response.add_capabilities(capability);
  if (parts_.data_grpc) response.add_capabilities(v1::CAPABILITY_DATA_GRPC);
}

Status ControlService::CheckAdmitting() const {
  if (!parts_.lifecycle.draining()) return OkStatus();
  return Error(StatusCode::kUnavailable,
               "the server is draining: it takes no new sessions or sequences; use another one");
}

Status ControlService::KeepUnlessEnded(const Session& session, SequenceId id) const {
  if (!session.ended()) return OkStatus();
  // It may have been closed with the session already.
  parts_.store.Close(session.tenant(), id).IgnoreError();
  return Error(StatusCode::kUnauthenticated, "the session has ended; connect again");
}

// ---- Sessions

grpc::ServerUnaryReactor* ControlService::Connect(Context* context,
                                                  const v1::ConnectRequest* request,
                                                  v1::ConnectResponse* response) {
  return Answer(context, Rpc::kConnect, [&]() -> Status {
    PASSBAND_RETURN_IF_ERROR(CheckAdmitting());
    if (request->protocol_version() != kProtocolVersion) {
      return Error(StatusCode::kFailedPrecondition,
                   "protocol version {} is not spoken here, {} is; the server is version {}",
                   request->protocol_version(), kProtocolVersion, kVersion);
    }
    PASSBAND_ASSIGN_OR_RETURN(const PeerIdentity peer, IdentifyPeer(*context->auth_context()));
    PASSBAND_ASSIGN_OR_RETURN(const std::string tenant, TenantOf(peer, request->tenant()));
    PASSBAND_ASSIGN_OR_RETURN(const auto session,
                              parts_.sessions.Open(tenant, request->client(), peer.certificate));
    response->set_protocol_version(kProtocolVersion);
    AddCapabilities(*response);
    response->set_session(session->id());
    response->set_secret(AsString(session->secret()));
    response->set_token(session->token());
    response->set_epoch(session->epoch());
    if (parts_.ucx != nullptr) {
      response->set_data_address(AsString(parts_.ucx->address(session->data_thread())));
    }
    response->set_lease_ms(Milliseconds(parts_.sessions.lease()));
    response->set_max_reply_bytes(parts_.limits.max_reply_bytes);
    response->set_max_outstanding(parts_.limits.max_outstanding);
    response->set_max_rows(parts_.limits.max_rows);
    response->set_block_tokens(kBlockTokens);
    response->set_server_version(kVersion);
    if (const uint16_t port = port_; port != 0 && !host_name_.empty()) {
      response->set_node(fmt::format("{}:{}", host_name_, port));
    }
    response->set_tenant(session->tenant());
    log::Info("session_opened", {{"session", fmt::format("{:016x}", session->id())},
                                 {"tenant", session->tenant()},
                                 {"client", session->client()}});
    return OkStatus();
  });
}

grpc::ServerUnaryReactor* ControlService::Heartbeat(Context* context,
                                                    const v1::HeartbeatRequest* request,
                                                    v1::HeartbeatResponse* response) {
  return AnswerSession(context, Rpc::kHeartbeat, [&](const Session&) {
    parts_.counters.heartbeats().Add(request->selected_rows(), request->hot_rows(),
                                     request->full_attention_bytes());
    response->set_lease_ms(Milliseconds(parts_.sessions.lease()));
    return OkStatus();
  });
}

grpc::ServerUnaryReactor* ControlService::Disconnect(Context* context, const v1::DisconnectRequest*,
                                                     v1::DisconnectResponse* response) {
  return AnswerSession(context, Rpc::kDisconnect, [&](const Session& session) -> Status {
    PASSBAND_ASSIGN_OR_RETURN(const uint64_t closed,
                              parts_.sessions.End(session.id(), EndReason::kDisconnected));
    response->set_closed_sequences(closed);
    return OkStatus();
  });
}

// ---- Models and profiles

grpc::ServerUnaryReactor* ControlService::RegisterModel(Context* context,
                                                        const v1::RegisterModelRequest* request,
                                                        v1::RegisterModelResponse*) {
  return AnswerSession(context, Rpc::kRegisterModel, [&](const Session&) -> Status {
    PASSBAND_ASSIGN_OR_RETURN(const ModelRecord model, FromMessage(request->model()));
    return parts_.models.Register(model);
  });
}

grpc::ServerUnaryReactor* ControlService::ListModels(Context* context, const v1::ListModelsRequest*,
                                                     v1::ListModelsResponse* response) {
  return AnswerSession(context, Rpc::kListModels, [&](const Session&) {
    for (const ModelRecord& model : parts_.models.List()) {
      ToMessage(model, *response->add_models());
    }
    return OkStatus();
  });
}

grpc::ServerUnaryReactor* ControlService::RegisterProfile(Context* context,
                                                          const v1::RegisterProfileRequest* request,
                                                          v1::RegisterProfileResponse* response) {
  return AnswerSession(context, Rpc::kRegisterProfile, [&](const Session&) -> Status {
    PASSBAND_ASSIGN_OR_RETURN(const uint64_t id,
                              parts_.profiles.Register(request->profile_json(), parts_.models));
    response->set_profile_id(id);
    return OkStatus();
  });
}

grpc::ServerUnaryReactor* ControlService::ListProfiles(Context* context,
                                                       const v1::ListProfilesRequest*,
                                                       v1::ListProfilesResponse* response) {
  return AnswerSession(context, Rpc::kListProfiles, [&](const Session&) {
    for (const ProfileTable::Entry& entry : parts_.profiles.List()) {
      ToMessage(entry, *response->add_profiles());
    }
    return OkStatus();
  });
}

// ---- Sequences

grpc::ServerUnaryReactor* ControlService::OpenSequence(Context* context,
                                                       const v1::OpenSequenceRequest* request,
                                                       v1::OpenSequenceResponse* response) {
  return AnswerSession(context, Rpc::kOpenSequence, [&](const Session& session) -> Status {
    PASSBAND_RETURN_IF_ERROR(CheckAdmitting());
    const auto tokens = Tokens(request->token_ids());
    PASSBAND_ASSIGN_OR_RETURN(const Store::OpenResult opened,
                              parts_.store.Open({.tenant = session.tenant(),
                                                 .model = request->model(),
                                                 .owner = session.owner(),
                                                 .token_ids = {tokens.begin(), tokens.end()},
                                                 .share_prefix = request->share_prefix(),
                                                 .max_tokens = request->max_tokens(),
                                                 .ttl = FromMilliseconds(request->ttl_ms())}));
    PASSBAND_RETURN_IF_ERROR(KeepUnlessEnded(session, opened.id));
    response->set_sequence(opened.id.value());
    response->set_matched_tokens(opened.matched_tokens);
    return OkStatus();
  });
}

grpc::ServerUnaryReactor* ControlService::ForkSequence(Context* context,
                                                       const v1::ForkSequenceRequest* request,
                                                       v1::ForkSequenceResponse* response) {
  return AnswerSession(context, Rpc::kForkSequence, [&](const Session& session) -> Status {
    PASSBAND_RETURN_IF_ERROR(CheckAdmitting());
    PASSBAND_ASSIGN_OR_RETURN(const SequenceId id,
                              parts_.store.Fork(session.tenant(), SequenceId{request->sequence()},
                                                request->tokens(), session.owner()));
    PASSBAND_RETURN_IF_ERROR(KeepUnlessEnded(session, id));
    response->set_sequence(id.value());
    return OkStatus();
  });
}

grpc::ServerUnaryReactor* ControlService::ExtendSequence(Context* context,
                                                         const v1::ExtendSequenceRequest* request,
                                                         v1::ExtendSequenceResponse*) {
  return AnswerSession(context, Rpc::kExtendSequence, [&](const Session& session) {
    return parts_.store.ExtendTokenIds(session.tenant(), SequenceId{request->sequence()},
                                       request->first(), Tokens(request->token_ids()));
  });
}

grpc::ServerUnaryReactor* ControlService::TruncateSequence(
    Context* context, const v1::TruncateSequenceRequest* request, v1::TruncateSequenceResponse*) {
  return AnswerSession(context, Rpc::kTruncateSequence, [&](const Session& session) {
    return parts_.store.Truncate(session.tenant(), SequenceId{request->sequence()},
                                 request->tokens());
  });
}

template <typename Start>
grpc::ServerUnaryReactor* ControlService::AnswerLater(Context* context, Rpc rpc,
                                                      const Start& start) {
  Reactor* const reactor = context->DefaultReactor();
  const auto finish = [this, context, reactor, rpc,
                       began = std::chrono::steady_clock::now()](const Status& status) {
    parts_.rpcs.Record(rpc, status.code(), Seconds(std::chrono::steady_clock::now() - began));
    reactor->Finish(StatusToGrpc(status, *context));
  };
  const auto session = AuthenticateCall(*context);
  if (!session.ok()) {
    finish(session.status());
  } else {
    start(**session, finish);
  }
  return reactor;
}

// Answered once the sequence would survive a crash.
grpc::ServerUnaryReactor* ControlService::SealSequence(Context* context,
                                                       const v1::SealSequenceRequest* request,
                                                       v1::SealSequenceResponse*) {
  return AnswerLater(context, Rpc::kSealSequence, [&](const Session& session, auto finish) {
    parts_.store.Seal(session.tenant(), SequenceId{request->sequence()}, finish);
  });
}

// Answered once all of it is in RAM.
grpc::ServerUnaryReactor* ControlService::PinSequence(Context* context,
                                                      const v1::PinSequenceRequest* request,
                                                      v1::PinSequenceResponse*) {
  return AnswerLater(context, Rpc::kPinSequence, [&](const Session& session, auto finish) {
    parts_.store.Pin(session.tenant(), SequenceId{request->sequence()},
                     FromMilliseconds(request->ttl_ms()), finish);
  });
}

grpc::ServerUnaryReactor* ControlService::UnpinSequence(Context* context,
                                                        const v1::UnpinSequenceRequest* request,
                                                        v1::UnpinSequenceResponse*) {
  return AnswerSession(context, Rpc::kUnpinSequence, [&](const Session& session) {
    return parts_.store.Unpin(session.tenant(), SequenceId{request->sequence()});
  });
}

grpc::ServerUnaryReactor* ControlService::CloseSequence(Context* context,
                                                        const v1::CloseSequenceRequest* request,
                                                        v1::CloseSequenceResponse*) {
  return AnswerSession(context, Rpc::kCloseSequence, [&](const Session& session) {
    return parts_.store.Close(session.tenant(), SequenceId{request->sequence()});
  });
}

grpc::ServerUnaryReactor* ControlService::StatSequence(Context* context,
                                                       const v1::StatSequenceRequest* request,
                                                       v1::StatSequenceResponse* response) {
  return AnswerSession(context, Rpc::kStatSequence, [&](const Session& session) -> Status {
    PASSBAND_ASSIGN_OR_RETURN(const SequenceInfo info,
                              parts_.store.Stat(session.tenant(), SequenceId{request->sequence()}));
    ToMessage(info, *response->mutable_sequence());
    return OkStatus();
  });
}

grpc::ServerUnaryReactor* ControlService::ListSequences(Context* context,
                                                        const v1::ListSequencesRequest* request,
                                                        v1::ListSequencesResponse* response) {
  return AnswerSession(context, Rpc::kListSequences, [&](const Session& session) {
    const uint32_t limit = request->limit() == 0 ? kDefaultListed : request->limit();
    for (const SequenceInfo& info :
         parts_.store.List(session.tenant(), SequenceId{request->after()},
                           std::min(limit, 10 * kDefaultListed))) {
      ToMessage(info, *response->add_sequences());
    }
    return OkStatus();
  });
}

grpc::ServerUnaryReactor* ControlService::Lookup(Context* context, const v1::LookupRequest* request,
                                                 v1::LookupResponse* response) {
  return AnswerSession(context, Rpc::kLookup, [&](const Session& session) -> Status {
    PASSBAND_ASSIGN_OR_RETURN(
        const uint64_t matched,
        parts_.store.Lookup(session.tenant(), request->model(), Tokens(request->token_ids())));
    response->set_matched_tokens(matched);
    return OkStatus();
  });
}

// ---- The server itself

grpc::ServerUnaryReactor* ControlService::Info(Context* context, const v1::InfoRequest*,
                                               v1::InfoResponse* response) {
  return Answer(context, Rpc::kInfo, [&] {
    const StoreStats stats = parts_.store.Stats();
    response->set_version(kVersion);
    response->set_protocol_version(kProtocolVersion);
    AddCapabilities(*response);
    response->set_epoch(parts_.sessions.epoch());
    response->set_uptime_seconds(parts_.lifecycle.uptime_seconds());
    response->set_draining(parts_.lifecycle.draining());
    ToMessage(stats, *response->mutable_memory());
    response->set_sessions(parts_.sessions.size());
    response->set_sequences_open(stats.sequences_open);
    response->set_sequences_sealed(stats.sequences_sealed);
    response->set_stored_tokens(stats.stored_tokens);
    response->set_prefix_lookup_tokens(stats.prefix_lookups);
    response->set_prefix_hit_tokens(stats.prefix_hits);
    response->set_http_address(parts_.http_address);
    FillUsage(*response);
    return OkStatus();
  });
}

void ControlService::FillUsage(v1::InfoResponse& response) const {
  const Counters::Totals totals = parts_.counters.Sum();
  response.set_fetched_rows(totals.fetched_rows);
  response.set_fetched_bytes(totals.fetched_bytes);
  response.set_selected_rows(totals.selected_rows);
  response.set_hot_rows(totals.hot_rows);
  response.set_full_attention_bytes(totals.full_attention_bytes);
  for (size_t i = 0; i < kTransports; ++i) {
    if (totals.connections[i] > 0) response.add_transports(Name(static_cast<Transport>(i)));
  }
}

}  // namespace passband::server
