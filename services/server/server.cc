#include "services/server/server.h"

#include <grpcpp/ext/health_check_service_server_builder_option.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/units.h"
#include "base/version.h"
#include "kvstore/spill_database.h"
#include "services/server/control_service.h"
#include "services/server/data_planes.h"
#include "services/server/http_service.h"
#include "services/server/operator_service.h"
#include "services/server/probe.h"
#include "services/server/server_credentials.h"
#include "services/server/slice_cache.h"
#include "services/server/status_page.h"

namespace passband::server {
namespace {

// A prompt of two million tokens, or a large profile.
constexpr int kMaxCallBytes = 16 << 20;
constexpr size_t kCallMemoryBytes = size_t{256} << 20;
constexpr int kMinPingIntervalMs = 10'000;

// A generation is the least that a full disk forgets; RocksDB keeps four memtables.
constexpr uint64_t kGenerations = 16;
constexpr uint64_t kMaxGenerationBytes = 4 * kGiB;
constexpr uint64_t kMaxMemtableBytes = 128 * kMiB;

// For the answers to calls that came while it was draining.
constexpr auto kGoodbye = std::chrono::milliseconds(300);

StatusOr<std::unique_ptr<TlsWatch>> OpenTls(const Settings& settings) {
  if (settings.tls.empty()) return std::unique_ptr<TlsWatch>();
  return TlsWatch::Start(settings.tls);
}

StatusOr<std::unique_ptr<SpillDatabase>> OpenSpill(const Settings& settings) {
  if (settings.spill_dir.empty()) return std::unique_ptr<SpillDatabase>();
  const uint64_t generation =
      std::min(settings.spill_limit_bytes / kGenerations, kMaxGenerationBytes);
  auto spill = SpillDatabase::Open({.directory = settings.spill_dir,
                                    .capacity_bytes = settings.spill_limit_bytes,
                                    .generation_bytes = generation,
                                    .memtable_bytes = std::min(generation / 4, kMaxMemtableBytes),
                                    .write_bytes_per_second = settings.spill_rate});
  if (!spill.ok()) return Annotate(spill.status(), "--spill-dir");
  const SpillLosses& losses = (*spill)->losses();
  if (losses.any()) {
    log::Warn("spill_losses", {{"directory", settings.spill_dir},
                               {"files", losses.files},
                               {"blocks", losses.blocks},
                               {"records", losses.records},
                               {"mended", losses.mended_copies}});
  }
  return spill;
}

Store::Options StoreOptions(const Settings& settings, SpillDatabase* spill, SliceCache* slices) {
  return {.arena = {.bytes = settings.ram_bytes,
                    .huge_pages = settings.huge_pages,
                    .lock = settings.lock_memory},
          .max_sequences = settings.max_sequences,
          .tenant_quota = settings.tenant_quota,
          .tenant_quotas = settings.tenant_quotas,
          .sequence_ttl = std::chrono::duration_cast<Duration>(settings.sequence_ttl),
          .pin_limit_bytes = settings.pin_limit_bytes,
          .tier = spill == nullptr ? nullptr : &spill->tier(),
          .catalog = spill == nullptr ? nullptr : &spill->catalog(),
          .full_tier = settings.spill_full,
          .low_watermark = settings.low_watermark,
          .high_watermark = settings.high_watermark,
          .watcher = slices};
}

SessionTable::Options SessionOptions(const Settings& settings) {
  return {.lease = std::chrono::duration_cast<Duration>(settings.lease),
          .max_sessions = settings.max_sessions,
          .data_threads = settings.data_threads};
}

}  // namespace

// In the order of their making; torn down in reverse, and by Stop() in the order it says.
struct Server::Impl {
  Impl(const Settings& from, std::unique_ptr<TlsWatch> watch, std::unique_ptr<SpillDatabase> opened,
       std::unique_ptr<SliceCache> cache, std::unique_ptr<Store> made)
      : settings(from),
        tls(std::move(watch)),
        spill(std::move(opened)),
        slices(std::move(cache)),
        store(std::move(made)),
        models(*store),
        profiles(spill == nullptr ? nullptr : &spill->catalog()),
        counters(DataPlanes::Threads(settings)),
        lifecycle([this] { OnDraining(); }),
        sessions(SessionOptions(settings), [this](const Session& ended) { return OnEnd(ended); }),
        sources{*store, spill.get(), *slices, sessions, counters, rpcs, lifecycle, tls.get()},
        probe(sources) {}

  Status StartDataPlanes();
  Status StartControl();
  Status StartHttp();
  void OnDraining();
  // So that what workers left open survives the restart, too.
  void SealAll();
  uint64_t OnEnd(const Session& session);

  const Settings settings;
  const std::unique_ptr<TlsWatch> tls;         // null without TLS
  const std::unique_ptr<SpillDatabase> spill;  // null without a --spill-dir
  const std::unique_ptr<SliceCache> slices;    // watches the store's blocks
  const std::unique_ptr<Store> store;
  ModelTable models;
  ProfileTable profiles;
  Counters counters;
  RpcCounters rpcs;
  Lifecycle lifecycle;
  SessionTable sessions;
  std::unique_ptr<DataPlanes> data_planes;
  std::unique_ptr<ControlService> control;
  std::unique_ptr<OperatorService> operators;
  std::shared_ptr<grpc::ServerCredentials> credentials;
  std::unique_ptr<grpc::Server> grpc;
  const Probe::Sources sources;
  const Probe probe;
  std::unique_ptr<HttpService> http;
  Endpoints endpoints;
};

Status Server::Impl::StartDataPlanes() {
  PASSBAND_ASSIGN_OR_RETURN(
      data_planes, DataPlanes::Start(settings, *store, sessions, profiles, *slices, counters));
  return OkStatus();
}

Status Server::Impl::StartControl() {
  control = std::make_unique<ControlService>(
      ControlService::Parts{*store, sessions, models, profiles, data_planes->ucx(),
                            data_planes->grpc() != nullptr, data_planes->limits(), counters, rpcs,
                            lifecycle, HostPort(endpoints.host, endpoints.http_port)});
  operators = std::make_unique<OperatorService>(
      OperatorService::Parts{*store, sessions, models, rpcs, lifecycle, settings.operators});
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  int port = 0;
  credentials = MakeServerCredentials(tls.get());
  builder.AddListeningPort(HostPort(settings.host, settings.control_port), credentials, &port);
  builder.RegisterService(control.get());
  if (data_planes->grpc() != nullptr) builder.RegisterService(&data_planes->grpc()->service());
  builder.RegisterService(operators.get());
  builder.SetMaxReceiveMessageSize(kMaxCallBytes);
  builder.SetResourceQuota(grpc::ResourceQuota("control").Resize(kCallMemoryBytes));
  // Otherwise a second server could take half of the first one's workers.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  grpc = builder.BuildAndStart();
  if (grpc == nullptr || port == 0) {
    return Error(StatusCode::kUnavailable,
                 "cannot listen for gRPC on {}: is it taken? Choose another --control-port, or 0 "
                 "for any",
                 HostPort(settings.host, settings.control_port));
  }
  endpoints.control_port = static_cast<uint16_t>(port);
  control->SetPort(endpoints.control_port);
  return OkStatus();
}

Status Server::Impl::StartHttp() {
  PASSBAND_ASSIGN_OR_RETURN(
      http, HttpService::Start(settings.host, settings.http_port,
                               {.metrics = [this] { return probe.Text(); },
                                .status_json = [this] { return StatusJson(sources); },
                                .ready = [this] { return lifecycle.ready(); },
                                .draining = [this] { return lifecycle.draining(); }}));
  endpoints.http_port = http->port();
  return OkStatus();
}

void Server::Impl::OnDraining() {
  log::Info("draining", {{"sessions", sessions.size()}});
  if (grpc == nullptr) return;
  if (auto* health = grpc->GetHealthCheckService(); health != nullptr) {
    health->SetServingStatus(false);
  }
}

void Server::Impl::SealAll() {
  if (spill == nullptr) return;
  const StoreStats stats = store->Stats();
  log::Info("sealing",
            {{"sequences", stats.sequences_open + stats.sequences_sealed},
             {"unwritten", FormatBytes(static_cast<double>(stats.pending_spill_bytes))}});
  const uint64_t failed = store->SealAll([this](uint64_t done, uint64_t of) {
    const auto unwritten = static_cast<double>(store->Stats().pending_spill_bytes);
    log::Info("sealing", {{"done", done}, {"of", of}, {"unwritten", FormatBytes(unwritten)}});
  });
  if (failed > 0) {
    log::Error("sequences_not_sealed", {{"sequences", failed}, {"device", spill->Health().device}});
  }
}

uint64_t Server::Impl::OnEnd(const Session& session) {
  data_planes->CloseSession(session);
  return store->CloseOwned(session.owner());
}

StatusOr<std::unique_ptr<Server>> Server::Start(const Settings& settings) {
  const Time start = std::chrono::steady_clock::now();
  PASSBAND_ASSIGN_OR_RETURN(auto tls, OpenTls(settings));
  PASSBAND_ASSIGN_OR_RETURN(auto spill, OpenSpill(settings));
  auto slices = std::make_unique<SliceCache>(settings.slice_cache_bytes);
  PASSBAND_ASSIGN_OR_RETURN(auto store,
                            Store::Create(StoreOptions(settings, spill.get(), slices.get())));
  auto impl = std::make_unique<Impl>(settings, std::move(tls), std::move(spill), std::move(slices),
                                     std::move(store));
  PASSBAND_RETURN_IF_ERROR(impl->profiles.Load(impl->models));
  impl->endpoints.host = settings.host;
  impl->endpoints.data_port = settings.data_port;
  PASSBAND_RETURN_IF_ERROR(impl->StartDataPlanes());
  // Before gRPC, which tells its address; until then /readyz says no.
  PASSBAND_RETURN_IF_ERROR(impl->StartHttp());
  std::unique_ptr<Server> out(new Server(std::move(impl)));
  PASSBAND_RETURN_IF_ERROR(out->impl_->StartControl());
  out->impl_->sessions.StartReaper();
  out->impl_->lifecycle.SetReady();
  if (!settings.ready_file.empty()) {
    PASSBAND_RETURN_IF_ERROR(WriteReadyFile(settings.ready_file, out->endpoints()));
  }
  const Arena& arena = out->impl_->store->arena();
  const StoreStats stats = out->impl_->store->Stats();
  log::Info("server_ready",
            {{"version", kVersion},
             {"control", HostPort(settings.host, out->endpoints().control_port)},
             {"http", HostPort(settings.host, out->endpoints().http_port)},
             {"data_port", settings.data_port},
             {"spill", settings.spill_dir.empty() ? "off" : settings.spill_dir},
             {"restored_sequences", stats.restored_sequences},
             {"left_out_sequences", stats.left_out_sequences},
             {"restored_prefix_blocks", stats.restored_prefix_blocks},
             {"transports", out->impl_->data_planes->names()},
             {"tls", settings.tls.empty()      ? "off"
                     : settings.tls.ca.empty() ? "server"
                                               : "mutual"},
             {"ram", FormatBytes(static_cast<double>(arena.bytes()))},
             {"huge_pages", FormatBytes(static_cast<double>(arena.huge_page_bytes()))},
             {"took_s", Seconds(std::chrono::steady_clock::now() - start)}});
  return out;
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Server::~Server() { Stop(); }

void Server::Stop() {
  if (impl_->data_planes == nullptr) return;
  const auto timeout = impl_->settings.stop_timeout;
  impl_->lifecycle.BeginDraining();
  const bool drained = impl_->data_planes->Drain(std::chrono::steady_clock::now() + timeout);
  if (!drained) log::Warn("requests_abandoned", {{"after", FormatSeconds(Seconds(timeout))}});
  impl_->SealAll();
  if (impl_->grpc != nullptr) {
    // What was under way has been answered. gRPC would wait until every client has taken note,
    // and an idle one looks every 5 s.
    impl_->grpc->Shutdown(std::chrono::system_clock::now() + kGoodbye);
    impl_->grpc->Wait();
  }
  impl_->sessions.StopReaper();
  impl_->sessions.EndAll(EndReason::kShutdown);
  impl_->data_planes.reset();
  impl_->http.reset();
  log::Info("server_stopped", {{"uptime_s", impl_->lifecycle.uptime_seconds()}});
}

const Endpoints& Server::endpoints() const { return impl_->endpoints; }

Store& Server::store() { return *impl_->store; }

}  // namespace passband::server
