#include <utility>

#include "profile/profile.h"
#include "sdk/client_impl.h"
#include "sdk/cluster/cluster_service.h"

namespace passband::client {
namespace {

template <typename T>
Result<T> Refused(const passband::Status& status) {
  return ToPublic(status);
}

passband::StatusOr<ModelInfo> ToModelInfo(const Model& model) {
  const size_t colon = model.fingerprint.find(':');
  if (colon == std::string::npos) {
    return Error(StatusCode::kInvalidArgument,
                 "fingerprint '{}': give \"architecture:weights\", as in \"1f0e:93ab\"",
                 model.fingerprint);
  }
  ModelInfo out{
      .fingerprint = {model.fingerprint.substr(0, colon), model.fingerprint.substr(colon + 1)},
      .name = model.name,
      .layers = model.layers,
      .query_heads = model.query_heads,
      .kv_heads = model.kv_heads,
      .head = {.head_dim = model.head_dim, .rotary_dim = model.rotary_dim},
  };
  PASSBAND_ASSIGN_OR_RETURN(out.head.dtype, ParseDType(model.dtype));
  PASSBAND_ASSIGN_OR_RETURN(out.head.layout, ParseRopeLayout(model.rope_layout));
  return out;
}

SequenceStat ToPublic(const passband::SequenceStat& stat) {
  return {
      .sequence = stat.id.value(),
      .tenant = stat.tenant,
      .model = stat.model,
      .sealed = stat.sealed,
      .committed_tokens = stat.committed_tokens,
      .known_tokens = stat.known_tokens,
      .shared_tokens = stat.shared_tokens,
      .resident_bytes = stat.resident_bytes,
      .idle_seconds = stat.idle_seconds,
      .ttl = stat.ttl,
      .pinned_for = stat.pinned_for,
  };
}

RangeRequest ToRequest(const Range& range) {
  return {SequenceId(range.sequence), range.layer, range.first_token, range.count};
}

}  // namespace

// ---- SliceProfile

struct SliceProfile::Impl {
  std::shared_ptr<const Profile> profile;
};

Result<SliceProfile> SliceProfile::Load(const std::string& path) {
  auto profile = Profile::Load(path);
  if (!profile.ok()) return client::ToPublic(profile.status());
  return SliceProfile(std::make_shared<const Impl>(Impl{*std::move(profile)}));
}

size_t SliceProfile::slice_bytes() const { return impl_->profile->slice_bytes(); }

// ---- Rows

struct Rows::Impl {
  std::unique_ptr<PendingRows> pending;
};

Rows::Rows(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Rows::Rows(Rows&&) noexcept = default;
Rows& Rows::operator=(Rows&&) noexcept = default;
Rows::~Rows() = default;

bool Rows::Ready() { return impl_->pending->Ready(); }

Result<std::span<const std::byte>> Rows::Wait() {
  const auto bytes = impl_->pending->Wait();
  if (!bytes.ok()) return client::ToPublic(bytes.status());
  return *bytes;
}

// ---- Client

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Result<Client> Client::Connect(const ConnectOptions& options) {
  ClusterOptions cluster{.servers = options.server};
  RemoteOptions& remote = cluster.remote;
  remote.tenant = options.tenant;
  remote.client = options.name;
  remote.connect_timeout = options.connect_timeout;
  remote.control_timeout = options.control_timeout;
  remote.data_timeout = options.data_timeout;
  remote.transports = options.transports;
  remote.net_devices = options.net_devices;
  remote.data_plane = options.data_plane;
  remote.tls = {options.tls_ca, options.tls_certificate, options.tls_key};
  remote.tls_server_name = options.tls_server_name;
  auto service = ClusterService::Connect(cluster);
  if (!service.ok()) return client::ToPublic(service.status());
  const ClusterService* const servers = service->get();
  return Client(std::make_unique<Impl>(Impl{*std::move(service), servers}));
}

Status Client::RegisterModel(const Model& model) {
  const auto info = ToModelInfo(model);
  return client::ToPublic(info.ok() ? impl_->service->RegisterModel(*info) : info.status());
}

Result<Opened> Client::Open(const OpenRequest& request) {
  const auto opened = impl_->service->Open({.model = request.model,
                                            .token_ids = request.token_ids,
                                            .share_prefix = request.share_prefix,
                                            .ttl = request.ttl});
  if (!opened.ok()) return Refused<Opened>(opened.status());
  return Opened{opened->id.value(), opened->matched_tokens};
}

Result<uint64_t> Client::Fork(uint64_t sequence, uint64_t tokens) {
  const auto fork = impl_->service->Fork(SequenceId(sequence), tokens);
  if (!fork.ok()) return Refused<uint64_t>(fork.status());
  return fork->value();
}

Status Client::Extend(uint64_t sequence, uint64_t first, std::span<const uint32_t> token_ids) {
  return client::ToPublic(impl_->service->Extend(SequenceId(sequence), first, token_ids));
}

Status Client::Truncate(uint64_t sequence, uint64_t tokens) {
  return client::ToPublic(impl_->service->Truncate(SequenceId(sequence), tokens));
}

Status Client::Seal(uint64_t sequence) {
  return client::ToPublic(impl_->service->Seal(SequenceId(sequence)));
}

Status Client::Pin(uint64_t sequence, std::chrono::milliseconds time) {
  return client::ToPublic(impl_->service->Pin(SequenceId(sequence), time));
}

Status Client::Unpin(uint64_t sequence) {
  return client::ToPublic(impl_->service->Unpin(SequenceId(sequence)));
}

Status Client::Close(uint64_t sequence) {
  return client::ToPublic(impl_->service->Close(SequenceId(sequence)));
}

Result<SequenceStat> Client::Stat(uint64_t sequence) {
  const auto stat = impl_->service->Stat(SequenceId(sequence));
  if (!stat.ok()) return Refused<SequenceStat>(stat.status());
  return ToPublic(*stat);
}

Result<std::vector<SequenceStat>> Client::List(uint64_t after, uint32_t limit) {
  const auto stats = impl_->service->List(SequenceId(after), limit);
  if (!stats.ok()) return Refused<std::vector<SequenceStat>>(stats.status());
  std::vector<SequenceStat> out;
  for (const auto& stat : *stats) out.push_back(ToPublic(stat));
  return out;
}

Result<uint64_t> Client::Lookup(const std::string& model, std::span<const uint32_t> token_ids) {
  const auto found = impl_->service->Lookup(model, token_ids);
  if (!found.ok()) return Refused<uint64_t>(found.status());
  return *found;
}

Status Client::Append(const AppendRequest& request) {
  return client::ToPublic(
      impl_->service->Append({SequenceId(request.sequence), request.layer, request.first_token,
                              request.count, request.rows}));
}

Status Client::Flush(uint64_t sequence) {
  return client::ToPublic(impl_->service->Flush(SequenceId(sequence)));
}

Rows Client::Fetch(std::span<const FetchGroup> groups, uint32_t row_bytes) {
  std::vector<passband::FetchGroup> wanted;
  wanted.reserve(groups.size());
  for (const FetchGroup& group : groups) {
    wanted.push_back({SequenceId(group.sequence), group.layer, group.kv_head, group.tokens});
  }
  return Rows(std::make_unique<Rows::Impl>(
      Rows::Impl{impl_->service->StartFetch({wanted, row_bytes, {}})}));
}

Rows Client::Fetch(std::initializer_list<FetchGroup> groups, uint32_t row_bytes) {
  return Fetch(std::span(groups.begin(), groups.size()), row_bytes);
}

Rows Client::Read(const Range& range) {
  return Rows(
      std::make_unique<Rows::Impl>(Rows::Impl{impl_->service->StartRead(ToRequest(range))}));
}

Rows Client::Slices(const Range& range, const SliceProfile& profile) {
  return Rows(std::make_unique<Rows::Impl>(
      Rows::Impl{impl_->service->StartSlices(ToRequest(range), profile.impl_->profile)}));
}

std::vector<ServerState> Client::servers() const {
  std::vector<ServerState> out;
  if (impl_->servers == nullptr) return out;
  for (const ServerStatus& server : impl_->servers->Servers()) {
    out.push_back({.address = server.address,
                   .available = server.available,
                   .why = server.why,
                   .epoch = server.epoch,
                   .connections = server.connections,
                   .lost_connections = server.lost_connections});
  }
  return out;
}

std::string Client::transport() const { return impl_->service->transport(); }

}  // namespace passband::client
