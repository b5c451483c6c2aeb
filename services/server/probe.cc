#include "services/server/probe.h"

#include <grpcpp/grpcpp.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <sstream>

#include "base/version.h"
#include "services/server/process_stats.h"

namespace passband::server {
namespace {

// Names come from outside: a page of metrics has an end.
constexpr size_t kMaxTenants = 1000;

double Number(uint64_t value) { return static_cast<double>(value); }

// Those that exist from the start, so that a rate over them is never missing.
bool Always(Transport transport) {
  return transport == Transport::kShm || transport == Transport::kTcp;
}

}  // namespace

std::vector<prometheus::MetricFamily> Probe::Collect() const {
  MetricFamilies out;
  AddServer(out);
  AddTls(out);
  AddStore(out);
  AddTenants(out);
  AddSpill(out);
  AddSliceCache(out);
  AddSessions(out);
  AddCalls(out);
  AddRequests(out);
  AddBytes(out);
  AddTransport(out);
  AddProcess(out);
  return out.Take();
}

std::string Probe::Text() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, Collect());
  return out.str();
}

void Probe::AddServer(MetricFamilies& out) const {
  out.Gauge("passband_build_info", "Versions of the server and of what it is built on; always 1")
      .Value({{"version", kVersion}, {"grpc", grpc::Version()}}, 1);
  out.Gauge("passband_ready", "1 while the server admits sessions and sequences")
      .Value(sources_.lifecycle.ready() ? 1 : 0);
  out.Gauge("passband_draining", "1 once the server has been told to drain or stop")
      .Value(sources_.lifecycle.draining() ? 1 : 0);
}

void Probe::AddTls(MetricFamilies& out) const {
  if (sources_.tls == nullptr) return;
  const TlsWatch::Stats stats = sources_.tls->stats();
  out.Gauge("passband_tls_healthy",
            "0 while the TLS files there are cannot be used, and those before them serve on")
      .Value(stats.healthy ? 1 : 0);
  out.Counter("passband_tls_reloads_total", "Changes of the TLS files, taken or refused")
      .Value({{"result", "taken"}}, Number(stats.taken))
      .Value({{"result", "refused"}}, Number(stats.refused));
  out.Gauge("passband_tls_certificate_start_timestamp_seconds",
            "From when on the certificate in use is valid, since the epoch")
      .Value(stats.valid_from_seconds);
  out.Gauge("passband_tls_certificate_end_timestamp_seconds",
            "Until when it is valid, since the epoch")
      .Value(stats.valid_until_seconds);
}

void Probe::AddStore(MetricFamilies& out) const {
  const StoreStats stats = sources_.store.Stats();
  out.Gauge("passband_memory_capacity_bytes", "RAM for keys and values")
      .Value(Number(stats.capacity_bytes));
  out.Gauge("passband_memory_used_bytes", "RAM in blocks, cached ones included")
      .Value(Number(stats.used_bytes));
  out.Gauge("passband_memory_cached_bytes",
            "RAM in blocks that only the prefix index refers to; freed when needed")
      .Value(Number(stats.cached_bytes));
  out.Gauge("passband_sequences", "Sequences, by state")
      .Value({{"state", "open"}}, Number(stats.sequences_open))
      .Value({{"state", "sealed"}}, Number(stats.sequences_sealed));
  out.Gauge("passband_pins", "Sequences that are pinned").Value(Number(stats.pins));
  out.Gauge("passband_pinned_bytes", "RAM in blocks of pinned sequences, shared ones once")
      .Value(Number(stats.pinned_bytes));
  out.Counter("passband_sequences_reaped_total",
              "Sequences that were closed because nobody used them for their TTL")
      .Value(Number(stats.sequences_reaped));
  out.Gauge("passband_stored_tokens", "Tokens of all sequences; shared ones count for each")
      .Value(Number(stats.stored_tokens));
  out.Gauge("passband_prefix_blocks", "Blocks that can be found by their tokens")
      .Value(Number(stats.prefix_blocks));
  out.Counter("passband_prefix_lookup_tokens_total", "Prompt tokens of opened sequences")
      .Value(Number(stats.prefix_lookups));
  out.Counter("passband_prefix_hit_tokens_total", "Of these, tokens that were stored already")
      .Value(Number(stats.prefix_hits));
  out.Counter("passband_evicted_blocks_total", "Cached blocks given up because memory was needed")
      .Value(Number(stats.evicted_blocks));
  out.Counter("passband_allocation_failures_total", "Blocks asked for while none was free")
      .Value(Number(stats.allocation_failures));
  const AllocationStalls& stalls = stats.allocation_stalls;
  out.Histogram("passband_allocation_stall_seconds",
                "Time of allocations that found no free block at once")
      .Value(AllocationStalls::kBounds, stalls.counts, stalls.sum_seconds);
  out.Gauge("passband_allocation_longest_stall_seconds", "The longest of them since the start")
      .Value(stalls.longest_seconds);
}

void Probe::AddTenants(MetricFamilies& out) const {
  const std::vector<TenantUse> uses = sources_.store.Tenants(kMaxTenants);
  const auto each = [&](const auto& value) {
    for (const TenantUse& use : uses) {
      const std::optional<uint64_t> number = value(use);
      if (number.has_value()) out.Value({{"tenant", use.tenant}}, Number(*number));
    }
  };
  using Optional = std::optional<uint64_t>;
  out.Gauge("passband_tenant_bytes",
            "Keys and values that a tenant's sequences hold, shared ones once");
  each([](const TenantUse& use) -> Optional { return use.bytes; });
  out.Gauge("passband_tenant_ram_bytes",
            "RAM in blocks of a tenant, those that only the prefix index refers to included");
  each([](const TenantUse& use) -> Optional { return use.ram_bytes; });
  out.Gauge("passband_tenant_sequences", "Sequences of a tenant");
  each([](const TenantUse& use) -> Optional { return use.sequences; });
  out.Gauge("passband_tenant_quota_bytes", "What a tenant may hold; absent: no limit");
  each([](const TenantUse& use) { return use.quota.bytes; });
  out.Gauge("passband_tenant_quota_sequences", "Sequences it may have; absent: no limit");
  each([](const TenantUse& use) { return use.quota.sequences; });
  out.Counter("passband_tenant_rejections_total", "What was refused for a tenant's quota");
  each([](const TenantUse& use) -> Optional { return use.rejections; });
}

void Probe::AddSpill(MetricFamilies& out) const {
  if (sources_.spill == nullptr) return;
  const StoreStats stats = sources_.store.Stats();
  const SpillHealth health = sources_.spill->Health();
  out.Gauge("passband_spill_capacity_bytes", "Disk for blocks, as --spill-limit says")
      .Value(Number(stats.tier_capacity_bytes));
  out.Gauge("passband_spill_used_bytes", "Of it, in use").Value(Number(stats.tier_used_bytes));
  out.Gauge("passband_block_bytes", "Blocks by where they are: in RAM, in both, on disk")
      .Value({{"tier", "ram"}},
             Number(stats.used_bytes - std::min(stats.used_bytes, stats.clean_bytes)))
      .Value({{"tier", "both"}}, Number(stats.clean_bytes))
      .Value({{"tier", "disk"}}, Number(stats.spilled_bytes));
  out.Gauge("passband_spill_pending_bytes", "Of RAM, whole blocks that the disk does not have yet")
      .Value(Number(stats.pending_spill_bytes + health.pending_bytes));
  out.Counter("passband_spill_bytes_total", "Bytes moved between RAM and disk")
      .Value({{"direction", "write"}}, Number(stats.spill_written_bytes))
      .Value({{"direction", "read"}}, Number(stats.restored_bytes));
  out.Counter("passband_evictions_total", "Blocks that left RAM: with a copy, or written first")
      .Value({{"reason", "clean"}}, Number(stats.evictions_clean))
      .Value({{"reason", "written"}}, Number(stats.evictions_dirty));
  out.Counter("passband_tier_reads_total", "Blocks that requests needed, by where they were")
      .Value({{"tier", "ram"}}, Number(stats.ram_hits))
      .Value({{"tier", "disk"}}, Number(stats.restored_blocks));
  out.Gauge("passband_restores_pending", "Requests that wait for blocks from the disk")
      .Value(Number(stats.restores_pending));
  out.Counter("passband_spill_errors_total", "What the disk refused or could not do")
      .Value({{"direction", "write"}}, Number(stats.spill_errors))
      .Value({{"direction", "read"}}, Number(stats.tier_read_errors));
  out.Counter("passband_lost_blocks_total",
              "Blocks found damaged or gone: their rows are DATA_LOSS, never other bytes")
      .Value(Number(stats.lost_blocks));
  out.Gauge("passband_restored_sequences", "Sealed by an earlier run, and here again")
      .Value(Number(stats.restored_sequences));
  out.Gauge("passband_left_out_sequences", "Sealed by an earlier run, but not to be served")
      .Value(Number(stats.left_out_sequences));
  out.Gauge("passband_restored_prefix_blocks",
            "Of closed sequences of an earlier run, and to be found again")
      .Value(Number(stats.restored_prefix_blocks));
  out.Gauge("passband_recorded_prefix_blocks",
            "Of passband_prefix_blocks, those that a crash would not cost")
      .Value(Number(stats.recorded_prefix_blocks));
  out.Gauge("passband_damaged_records", "Records of the spill directory that cannot be read")
      .Value(Number(stats.damaged_records));
  out.Counter("passband_seals_total",
              "Sequences made durable, or not; whose blocks a full disk forgot: durable again "
              "(renewed), or in part lost; tries to erase records that failed (erase_error)")
      .Value({{"result", "ok"}}, Number(stats.durable_seals))
      .Value({{"result", "error"}}, Number(stats.seal_failures))
      .Value({{"result", "renewed"}}, Number(stats.renewed_seals))
      .Value({{"result", "lost"}}, Number(stats.lost_seals))
      .Value({{"result", "erase_error"}}, Number(stats.erasure_failures));
  out.Gauge("passband_seals_pending",
            "Sequences that wait to be made durable, to be so again (renew), or to be forgotten")
      .Value({{"work", "seal"}},
             Number(stats.seals_pending - std::min(stats.seals_pending, stats.erasures_pending)))
      .Value({{"work", "renew"}}, Number(stats.renewals_pending))
      .Value({{"work", "erase"}}, Number(stats.erasures_pending));
  out.Counter("passband_spill_dropped_generations_total", "Generations forgotten by a full disk")
      .Value(Number(stats.dropped_generations));
  out.Counter("passband_checksum_failures_total", "Reads of the disk whose bytes were damaged")
      .Value(Number(health.damaged_planes));
  out.Counter("passband_spill_stall_seconds_total", "Time that writes waited for the disk")
      .Value(health.stall_seconds);
  out.Gauge("passband_spill_healthy", "0 while the disk fails or is full")
      .Value(health.device.ok() ? 1 : 0);
}

void Probe::AddSliceCache(MetricFamilies& out) const {
  const SliceCache::Stats stats = sources_.slices.stats();
  out.Gauge("passband_slice_cache_capacity_bytes", "RAM for encoded slices")
      .Value(Number(stats.capacity_bytes));
  out.Gauge("passband_slice_cache_bytes", "Of it, in use").Value(Number(stats.bytes));
  out.Counter("passband_slice_cache_hits_total", "Blocks whose slices were at hand")
      .Value(Number(stats.hits));
  out.Counter("passband_slice_cache_misses_total", "Blocks that were read and encoded")
      .Value(Number(stats.misses));
  out.Counter("passband_slice_cache_evictions_total", "Slices of a block that made room for others")
      .Value(Number(stats.evictions));
}

void Probe::AddSessions(MetricFamilies& out) const {
  out.Gauge("passband_sessions", "Connected workers").Value(Number(sources_.sessions.size()));
  out.Counter("passband_sessions_closed_total", "Sessions that ended, by reason");
  for (size_t i = 0; i < kEndReasons; ++i) {
    const auto reason = static_cast<EndReason>(i);
    out.Value({{"reason", Name(reason)}}, Number(sources_.sessions.ended(reason)));
  }
}

void Probe::AddCalls(MetricFamilies& out) const {
  const auto each = [this](auto&& use) {
    for (size_t i = 0; i < kRpcs; ++i) {
      const auto rpc = static_cast<Rpc>(i);
      use(Name(rpc), sources_.rpcs.of(rpc));
    }
  };
  out.Counter("passband_rpc_requests_total", "Calls of the control plane, by method and code");
  each([&out](const char* method, const RequestCounters& calls) {
    for (size_t code = 0; code < kResults; ++code) {
      const uint64_t count = calls.results[code].value();
      if (count == 0 && code != 0) continue;
      out.Value({{"method", method}, {"code", ResultName(static_cast<StatusCode>(code))}},
                Number(count));
    }
  });
  out.Histogram("passband_rpc_duration_seconds", "Time to answer a call of the control plane");
  each([&out](const char* method, const RequestCounters& calls) {
    if (calls.total() > 0) out.Value({{"method", method}}, {&calls.seconds});
  });
}

void Probe::AddRequests(MetricFamilies& out) const {
  const auto& threads = sources_.counters.threads();
  const auto each = [&threads](auto&& use) {
    for (size_t m = 0; m < kMethods; ++m) {
      for (size_t t = 0; t < kTransports; ++t) {
        std::vector<const RequestCounters*> parts;
        uint64_t total = 0;
        for (const auto& thread : threads) {
          parts.push_back(&thread->requests[m][t]);
          total += parts.back()->total();
        }
        use(static_cast<Method>(m), static_cast<Transport>(t), parts, total);
      }
    }
  };
  out.Counter("passband_requests_total",
              "Requests of the data plane, by method, transport and how they ended");
  each([&out](Method method, Transport transport, const auto& parts, uint64_t total) {
    if (total == 0 && !Always(transport)) return;
    for (size_t code = 0; code < kResults; ++code) {
      uint64_t count = 0;
      for (const RequestCounters* part : parts) count += part->results[code].value();
      if (count == 0 && code != 0) continue;
      out.Value({{"method", Name(method)},
                 {"transport", Name(transport)},
                 {"result", ResultName(static_cast<StatusCode>(code))}},
                Number(count));
    }
  });
  out.Histogram("passband_request_duration_seconds",
                "From a request's arrival until its answer was sent");
  each([&out](Method method, Transport transport, const auto& parts, uint64_t total) {
    if (total == 0) return;
    std::vector<const SecondsHistogram*> seconds;
    seconds.reserve(parts.size());
    for (const RequestCounters* part : parts) seconds.push_back(&part->seconds);
    out.Value({{"method", Name(method)}, {"transport", Name(transport)}}, seconds);
  });
}

void Probe::AddBytes(MetricFamilies& out) const {
  const auto& threads = sources_.counters.threads();
  const auto sum = [&threads](auto&& of) {
    uint64_t total = 0;
    for (const auto& thread : threads) total += of(*thread).value();
    return Number(total);
  };
  out.Counter("passband_rows_total", "Rows fetched, appended, encoded or read");
  for (size_t m = 0; m < kMethods; ++m) {
    out.Value({{"method", Name(static_cast<Method>(m))}},
              sum([m](const ThreadCounters& thread) -> const auto& { return thread.rows[m]; }));
  }
  const auto by_transport = [&](auto member) {
    for (size_t t = 0; t < kTransports; ++t) {
      const double bytes = sum([ member, t ](const ThreadCounters& thread) -> const auto& {
        return (thread.*member)[t];
      });
      const auto transport = static_cast<Transport>(t);
      if (bytes > 0 || Always(transport)) out.Value({{"transport", Name(transport)}}, bytes);
    }
  };
  out.Counter("passband_fetched_bytes_total", "Rows sent in answer to fetches");
  by_transport(&ThreadCounters::fetched_bytes);
  out.Counter("passband_appended_bytes_total", "Rows received and stored");
  by_transport(&ThreadCounters::appended_bytes);
  out.Counter("passband_slice_bytes_total", "Slices sent to workers that attach").Value(sum([
  ](const ThreadCounters& thread) -> const auto& { return thread.slice_bytes; }));
  out.Counter("passband_read_bytes_total", "Rows sent in answer to reads of whole ranges")
      .Value(sum([](const ThreadCounters& thread) -> const auto& { return thread.read_bytes; }));
  const Counters::Totals totals = sources_.counters.Sum();
  out.Counter("passband_full_attention_bytes_total",
              "What attention over every token would have read, as workers report it")
      .Value(Number(totals.full_attention_bytes));
  out.Counter("passband_selected_rows_total", "Rows that workers selected")
      .Value(Number(totals.selected_rows));
  out.Counter("passband_hot_rows_total", "Of these, rows that they still had")
      .Value(Number(totals.hot_rows));
}

void Probe::AddTransport(MetricFamilies& out) const {
  const Counters::Totals totals = sources_.counters.Sum();
  out.Gauge("passband_transport_connections", "Data connections now open, by what carries them");
  for (size_t t = 0; t < kTransports; ++t) {
    out.Value({{"transport", Name(static_cast<Transport>(t))}}, Number(totals.connections[t]));
  }
  uint64_t capacity = 0;
  uint64_t used = 0;
  for (const auto& thread : sources_.counters.threads()) {
    capacity += thread->staging_capacity_bytes.value();
    used += thread->staging_used_bytes.value();
  }
  out.Gauge("passband_staging_capacity_bytes", "RAM for replies under way").Value(Number(capacity));
  out.Gauge("passband_staging_used_bytes", "Of it, in replies not yet taken").Value(Number(used));
  out.Counter("passband_transport_errors_total",
              "Messages of nobody known, and connections that broke, by reason");
  for (size_t e = 0; e < kTransportErrors; ++e) {
    uint64_t count = 0;
    for (const auto& thread : sources_.counters.threads()) count += thread->errors[e].value();
    out.Value({{"reason", Name(static_cast<TransportError>(e))}}, Number(count));
  }
}

void Probe::AddProcess(MetricFamilies& out) const {
  const ProcessStats stats = ProcessStats::Read();
  const auto limit = [](uint64_t value) {
    return value == std::numeric_limits<uint64_t>::max() ? std::numeric_limits<double>::infinity()
                                                         : Number(value);
  };
  out.Counter("process_cpu_seconds_total", "User and system CPU time").Value(stats.cpu_seconds);
  out.Gauge("process_start_time_seconds", "When the process started, since the epoch")
      .Value(stats.start_time_seconds);
  out.Gauge("process_resident_memory_bytes", "RAM of the process")
      .Value(Number(stats.resident_bytes));
  out.Gauge("process_virtual_memory_bytes", "Address space of the process")
      .Value(Number(stats.virtual_bytes));
  out.Gauge("process_threads", "Threads of the process").Value(Number(stats.threads));
  out.Gauge("process_open_fds", "Open file descriptors").Value(Number(stats.open_fds));
  out.Gauge("process_max_fds", "Limit of open file descriptors").Value(limit(stats.max_fds));
  out.Gauge("passband_memory_locked_limit_bytes", "RLIMIT_MEMLOCK: RAM that may be locked")
      .Value(limit(stats.locked_limit_bytes));
}

}  // namespace passband::server
