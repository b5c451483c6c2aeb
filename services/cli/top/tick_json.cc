#include <cmath>
#include <nlohmann/json.hpp>

#include "services/cli/top/tick_report.h"

namespace passband::top {
namespace {

using Json = nlohmann::ordered_json;

Json OrNull(double value) { return std::isfinite(value) ? Json(value) : Json(); }

Json SavedJson(const Saved& saved) {
  return {{"share", OrNull(saved.share())},
          {"fetched_bytes", saved.fetched_bytes},
          {"full_attention_bytes", saved.full_attention_bytes}};
}

Json TrafficJson(const TrafficRate& rate) {
  return {{"method", rate.method},
          {"transport", rate.transport.empty() ? Json() : Json(rate.transport)},
          {"requests_per_second", rate.requests_per_second},
          {"rows_per_second", OrNull(rate.rows_per_second)},
          {"bytes_per_second", OrNull(rate.bytes_per_second)},
          {"failed_per_second", rate.failed_per_second},
          {"p50_seconds", OrNull(rate.p50_seconds)},
          {"p90_seconds", OrNull(rate.p90_seconds)},
          {"p99_seconds", OrNull(rate.p99_seconds)}};
}

Json TenantJson(const TenantUse& use) {
  return {{"tenant", use.name},
          {"held_bytes", use.bytes},
          {"ram_bytes", use.ram_bytes},
          {"sequences", use.sequences},
          {"quota_bytes", OrNull(use.quota_bytes)},
          {"quota_sequences", OrNull(use.quota_sequences)},
          {"rejections_per_second", use.rejections_per_second}};
}

Json MemoryJson(const ServerTick& tick) {
  Json json = {{"capacity_bytes", tick.capacity_bytes},
               {"used_bytes", tick.used_bytes},
               {"cached_bytes", tick.cached_bytes},
               {"pinned_bytes", tick.pinned_bytes},
               {"slice_bytes", tick.slice_bytes},
               {"slice_capacity_bytes", tick.slice_capacity_bytes},
               {"staging_bytes", tick.staging_bytes},
               {"staging_capacity_bytes", tick.staging_capacity_bytes}};
  json["disk"] = nullptr;
  if (tick.has_disk) {
    json["disk"] = {{"capacity_bytes", tick.disk_capacity_bytes},
                    {"used_bytes", tick.disk_bytes},
                    {"also_in_ram_bytes", tick.both_bytes},
                    {"pending_bytes", tick.pending_spill_bytes},
                    {"written_bytes_per_second", tick.spill_written_per_second},
                    {"read_bytes_per_second", tick.spill_read_per_second}};
  }
  return json;
}

}  // namespace

std::string TickJson(const ServerTick& tick, const std::string& server) {
  Json json = {{"schema", "passband.top/v1"},
               {"server", server},
               {"version", tick.version},
               {"uptime_seconds", tick.uptime_seconds},
               {"ready", tick.ready},
               {"draining", tick.draining},
               {"restarted", tick.restarted},
               {"interval_seconds", tick.seconds},
               {"saved", SavedJson(tick.saved_now)},
               {"saved_since_start", SavedJson(tick.saved_since_start)},
               {"hot_row_share", OrNull(tick.hot_row_share)},
               {"prefix_hit_share", OrNull(tick.prefix_hit_share)},
               {"slice_hit_share", OrNull(tick.slice_hit_share)},
               {"ram_read_share", OrNull(tick.ram_read_share)}};
  json["traffic"] = Json::array();
  for (const TrafficRate& rate : tick.traffic) json["traffic"].push_back(TrafficJson(rate));
  json["memory"] = MemoryJson(tick);
  json["sessions"] = tick.sessions;
  json["connections"] = Json::object();
  for (const auto& [transport, count] : tick.connections) json["connections"][transport] = count;
  json["sequences_open"] = tick.sequences_open;
  json["sequences_sealed"] = tick.sequences_sealed;
  json["stored_tokens"] = tick.stored_tokens;
  json["tenants"] = Json::array();
  for (const TenantUse& use : tick.tenants) json["tenants"].push_back(TenantJson(use));
  json["cpu_cores"] = tick.cpu_cores;
  json["resident_bytes"] = tick.resident_bytes;
  json["warnings"] = tick.warnings;
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace passband::top
