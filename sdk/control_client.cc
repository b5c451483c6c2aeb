#include "sdk/control_client.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <utility>

#include "base/mutex.h"
#include "passband/v1/control.grpc.pb.h"
#include "sdk/control_call.h"
#include "sdk/control_messages.h"

namespace passband {
namespace {

using Milliseconds = std::chrono::milliseconds;

constexpr uint32_t kProtocolVersion = 1;
constexpr int kMaxMessageBytes = 64 << 20;

StatusOr<RowShape> ToShape(const v1::Model& model) {
  PASSBAND_ASSIGN_OR_RETURN(const kernels::DType dtype, ParseDType(model.dtype()));
  return RowShape{model.layers(), model.kv_heads(),
                  static_cast<uint32_t>(size_t{2} * model.head_dim() * kernels::DTypeBytes(dtype))};
}

void AddTokens(std::span<const uint32_t> token_ids,
               google::protobuf::RepeatedField<uint32_t>& out) {
  out.Reserve(static_cast<int>(token_ids.size()));
  for (const uint32_t id : token_ids) out.Add(id);
}

template <typename Request>
Request For(SequenceId sequence) {
  Request request;
  request.set_sequence(sequence.value());
  return request;
}

}  // namespace

struct ControlClient::Impl {
  explicit Impl(Options given)
      : options(std::move(given)),
        stub(v1::Control::NewStub(MakeGrpcChannel(options.target, kMaxMessageBytes))) {}

  const Options options;
  std::unique_ptr<v1::Control::Stub> stub;
  std::string session;     // Written by Connect(), before other threads call.
  bool lifetimes = false;  // the same
  std::string token;

  // The heartbeat under way, if any.
  Mutex mutex;
  std::condition_variable_any heartbeat_done;
  std::unique_ptr<grpc::ClientContext> heartbeat ABSL_GUARDED_BY(mutex);
  v1::HeartbeatRequest heartbeat_request;
  v1::HeartbeatResponse heartbeat_response;

  Status CheckLifetimes(const char* what) const {
    if (lifetimes) return OkStatus();
    return Error(StatusCode::kUnimplemented,
                 "passband-server at {} knows nothing of {}: update it, or ask for none",
                 options.target.address, what);
  }

  void Prepare(grpc::ClientContext& context, Milliseconds timeout) const {
    SetTimeout(context, timeout);
    if (session.empty()) return;
    context.AddMetadata("passband-session", session);
    context.AddMetadata("passband-token", token);
  }

  template <typename Request, typename Response>
  StatusOr<Response> Call(grpc::Status (v1::Control::Stub::*method)(grpc::ClientContext*,
                                                                    const Request&, Response*),
                          const Request& request, const char* what, Milliseconds timeout) {
    grpc::ClientContext context;
    Prepare(context, timeout);
    Response response;
    const grpc::Status status = (stub.get()->*method)(&context, request, &response);
    if (!status.ok()) return ControlStatus(status, context, options.target, what);
    return response;
  }

  template <typename Request, typename Response>
  StatusOr<Response> Call(grpc::Status (v1::Control::Stub::*method)(grpc::ClientContext*,
                                                                    const Request&, Response*),
                          const Request& request, const char* what) {
    return Call(method, request, what, options.call_timeout);
  }
};

ControlClient::ControlClient(const Options& options) : impl_(std::make_unique<Impl>(options)) {}

ControlClient::~ControlClient() {
  std::unique_lock lock(impl_->mutex);
  if (impl_->heartbeat != nullptr) impl_->heartbeat->TryCancel();
  impl_->heartbeat_done.wait(lock, [this] { return impl_->heartbeat == nullptr; });
}

StatusOr<SessionInfo> ControlClient::Connect() {
  v1::ConnectRequest request;
  request.set_protocol_version(kProtocolVersion);
  for (const v1::Capability capability :
       {v1::CAPABILITY_FETCH, v1::CAPABILITY_SLICES, v1::CAPABILITY_READ,
        v1::CAPABILITY_REPLY_CHECKSUM, v1::CAPABILITY_LIFETIMES}) {
    request.add_capabilities(capability);
  }
  request.set_tenant(impl_->options.tenant);
  request.set_client(impl_->options.client);
  PASSBAND_ASSIGN_OR_RETURN(
      const v1::ConnectResponse response,
      impl_->Call(&v1::Control::Stub::Connect, request, "connect", impl_->options.connect_timeout));
  SessionInfo out;
  if (response.protocol_version() != kProtocolVersion) {
    return Error(StatusCode::kFailedPrecondition,
                 "passband-server {} at {} speaks protocol {}, this client {}: update one",
                 response.server_version(), impl_->options.target.address,
                 response.protocol_version(), kProtocolVersion);
  }
  if (response.secret().size() != out.secret.size() || response.max_reply_bytes() == 0 ||
      response.max_rows() == 0) {
    return Error(StatusCode::kInternal, "passband-server at {} sent a malformed session",
                 impl_->options.target.address);
  }
  std::memcpy(out.secret.data(), response.secret().data(), out.secret.size());
  const auto* address = reinterpret_cast<const std::byte*>(response.data_address().data());
  out.data_address.assign(address, address + response.data_address().size());
  const auto can = [&](v1::Capability capability) {
    return std::find(response.capabilities().begin(), response.capabilities().end(), capability) !=
           response.capabilities().end();
  };
  out.data_grpc = can(v1::CAPABILITY_DATA_GRPC);
  impl_->lifetimes = can(v1::CAPABILITY_LIFETIMES);
  out.max_reply_bytes = response.max_reply_bytes();
  out.max_rows = response.max_rows();
  out.max_outstanding = response.max_outstanding();
  out.session = response.session();
  out.epoch = response.epoch();
  out.node = response.node();
  out.tenant = response.tenant();
  out.lease = Milliseconds(response.lease_ms());
  impl_->session = fmt::format("{:016x}", response.session());
  impl_->token = response.token();
  return out;
}

Status ControlClient::Disconnect(Milliseconds timeout) {
  return impl_->Call(&v1::Control::Stub::Disconnect, v1::DisconnectRequest(), "disconnect", timeout)
      .status();
}

Status ControlClient::Ping() {
  return impl_->Call(&v1::Control::Stub::Heartbeat, v1::HeartbeatRequest(), "ping").status();
}

void ControlClient::Heartbeat(const SelectionReport& report,
                              std::function<void(const Status&)> on_failure) {
  MutexLock lock(impl_->mutex);
  if (impl_->heartbeat != nullptr) return;
  impl_->heartbeat = std::make_unique<grpc::ClientContext>();
  impl_->Prepare(*impl_->heartbeat, impl_->options.call_timeout);
  impl_->heartbeat_request.set_selected_rows(report.selected_rows);
  impl_->heartbeat_request.set_hot_rows(report.hot_rows);
  impl_->heartbeat_request.set_full_attention_bytes(report.full_attention_bytes);
  impl_->stub->async()->Heartbeat(
      impl_->heartbeat.get(), &impl_->heartbeat_request, &impl_->heartbeat_response,
      [impl = impl_.get(), context = impl_->heartbeat.get(),
       on_failure = std::move(on_failure)](const grpc::Status& status) {
        if (!status.ok()) {
          on_failure(ControlStatus(status, *context, impl->options.target, "heartbeat"));
        }
        // The destructor waits for this, so it is the last thing to touch impl.
        MutexLock done(impl->mutex);
        impl->heartbeat.reset();
        impl->heartbeat_done.notify_all();
      });
}

Status ControlClient::RegisterModel(const ModelInfo& model) {
  v1::RegisterModelRequest request;
  v1::Model& out = *request.mutable_model();
  out.set_fingerprint(model.fingerprint.text());
  out.set_name(model.name);
  out.set_layers(model.layers);
  out.set_kv_heads(model.kv_heads);
  out.set_head_dim(model.head.head_dim);
  out.set_rotary_dim(model.head.rotary_dim);
  out.set_dtype(DTypeName(model.head.dtype));
  out.set_rope_layout(RopeLayoutName(model.head.layout));
  return impl_->Call(&v1::Control::Stub::RegisterModel, request, "register model").status();
}

StatusOr<RowShape> ControlClient::FindModel(const std::string& fingerprint) {
  PASSBAND_ASSIGN_OR_RETURN(
      const v1::ListModelsResponse response,
      impl_->Call(&v1::Control::Stub::ListModels, v1::ListModelsRequest(), "list models"));
  for (const v1::Model& model : response.models()) {
    if (model.fingerprint() == fingerprint) return ToShape(model);
  }
  return Error(StatusCode::kNotFound, "model {} is not registered", fingerprint);
}

StatusOr<uint64_t> ControlClient::RegisterProfile(const std::string& json) {
  v1::RegisterProfileRequest request;
  request.set_profile_json(json);
  PASSBAND_ASSIGN_OR_RETURN(
      const v1::RegisterProfileResponse response,
      impl_->Call(&v1::Control::Stub::RegisterProfile, request, "register profile"));
  return response.profile_id();
}

StatusOr<OpenedSequence> ControlClient::Open(const OpenParams& params) {
  v1::OpenSequenceRequest request;
  request.set_model(params.model);
  AddTokens(params.token_ids, *request.mutable_token_ids());
  request.set_share_prefix(params.share_prefix);
  request.set_max_tokens(params.max_tokens);
  if (params.ttl < Milliseconds::zero()) {
    return Error(StatusCode::kInvalidArgument, "a TTL of {} ms: give 0 or more",
                 params.ttl.count());
  }
  if (params.ttl > Milliseconds::zero()) PASSBAND_RETURN_IF_ERROR(impl_->CheckLifetimes("a TTL"));
  request.set_ttl_ms(static_cast<uint64_t>(params.ttl.count()));
  PASSBAND_ASSIGN_OR_RETURN(
      const v1::OpenSequenceResponse response,
      impl_->Call(&v1::Control::Stub::OpenSequence, request, "open sequence"));
  return OpenedSequence{SequenceId(response.sequence()), response.matched_tokens()};
}

StatusOr<SequenceId> ControlClient::Fork(SequenceId sequence, uint64_t tokens) {
  auto request = For<v1::ForkSequenceRequest>(sequence);
  request.set_tokens(tokens);
  PASSBAND_ASSIGN_OR_RETURN(
      const v1::ForkSequenceResponse response,
      impl_->Call(&v1::Control::Stub::ForkSequence, request, "fork sequence"));
  return SequenceId(response.sequence());
}

Status ControlClient::Extend(SequenceId sequence, uint64_t first,
                             std::span<const uint32_t> token_ids) {
  auto request = For<v1::ExtendSequenceRequest>(sequence);
  request.set_first(first);
  AddTokens(token_ids, *request.mutable_token_ids());
  return impl_->Call(&v1::Control::Stub::ExtendSequence, request, "extend sequence").status();
}

Status ControlClient::Truncate(SequenceId sequence, uint64_t tokens) {
  auto request = For<v1::TruncateSequenceRequest>(sequence);
  request.set_tokens(tokens);
  return impl_->Call(&v1::Control::Stub::TruncateSequence, request, "truncate sequence").status();
}

Status ControlClient::Seal(SequenceId sequence) {
  return impl_
      ->Call(&v1::Control::Stub::SealSequence, For<v1::SealSequenceRequest>(sequence),
             "seal sequence")
      .status();
}

Status ControlClient::Pin(SequenceId sequence, Milliseconds time) {
  PASSBAND_RETURN_IF_ERROR(impl_->CheckLifetimes("pins"));
  if (time < Milliseconds::zero()) {
    return Error(StatusCode::kInvalidArgument, "a pin of {} ms: give 0 or more", time.count());
  }
  auto request = For<v1::PinSequenceRequest>(sequence);
  request.set_ttl_ms(static_cast<uint64_t>(time.count()));
  return impl_->Call(&v1::Control::Stub::PinSequence, request, "pin sequence").status();
}

Status ControlClient::Unpin(SequenceId sequence) {
  PASSBAND_RETURN_IF_ERROR(impl_->CheckLifetimes("pins"));
  return impl_
      ->Call(&v1::Control::Stub::UnpinSequence, For<v1::UnpinSequenceRequest>(sequence),
             "unpin sequence")
      .status();
}

Status ControlClient::Close(SequenceId sequence) {
  return impl_
      ->Call(&v1::Control::Stub::CloseSequence, For<v1::CloseSequenceRequest>(sequence),
             "close sequence")
      .status();
}

StatusOr<SequenceStat> ControlClient::Stat(SequenceId sequence) {
  PASSBAND_ASSIGN_OR_RETURN(const v1::StatSequenceResponse response,
                            impl_->Call(&v1::Control::Stub::StatSequence,
                                        For<v1::StatSequenceRequest>(sequence), "stat sequence"));
  return ToStat(response.sequence());
}

StatusOr<std::vector<SequenceStat>> ControlClient::List(SequenceId after, uint32_t limit) {
  v1::ListSequencesRequest request;
  request.set_after(after.value());
  request.set_limit(limit);
  PASSBAND_ASSIGN_OR_RETURN(
      const v1::ListSequencesResponse response,
      impl_->Call(&v1::Control::Stub::ListSequences, request, "list sequences"));
  std::vector<SequenceStat> out;
  out.reserve(static_cast<size_t>(response.sequences_size()));
  for (const v1::Sequence& sequence : response.sequences()) out.push_back(ToStat(sequence));
  return out;
}

StatusOr<uint64_t> ControlClient::Lookup(const std::string& model,
                                         std::span<const uint32_t> token_ids) {
  v1::LookupRequest request;
  request.set_model(model);
  AddTokens(token_ids, *request.mutable_token_ids());
  PASSBAND_ASSIGN_OR_RETURN(const v1::LookupResponse response,
                            impl_->Call(&v1::Control::Stub::Lookup, request, "lookup"));
  return response.matched_tokens();
}

}  // namespace passband
