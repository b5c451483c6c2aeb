#include "services/server/status_page.h"

#include <nlohmann/json.hpp>

#include "base/version.h"

namespace passband::server {

std::string StatusJson(const Probe::Sources& sources) {
  const StoreStats store = sources.store.Stats();
  const Counters::Totals totals = sources.counters.Sum();
  nlohmann::json requests;
  for (size_t m = 0; m < kMethods; ++m) {
    requests[Name(static_cast<Method>(m))] = totals.by_method[m];
  }
  nlohmann::json connections;
  for (size_t t = 0; t < kTransports; ++t) {
    connections[Name(static_cast<Transport>(t))] = totals.connections[t];
  }
  const nlohmann::json json = {
      {"version", kVersion},
      {"uptime_seconds", sources.lifecycle.uptime_seconds()},
      {"ready", sources.lifecycle.ready()},
      {"draining", sources.lifecycle.draining()},
      {"sessions", sources.sessions.size()},
      {"memory",
       {{"capacity_bytes", store.capacity_bytes},
        {"used_bytes", store.used_bytes},
        {"cached_bytes", store.cached_bytes}}},
      {"sequences", {{"open", store.sequences_open}, {"sealed", store.sequences_sealed}}},
      {"stored_tokens", store.stored_tokens},
      {"prefix", {{"lookup_tokens", store.prefix_lookups}, {"hit_tokens", store.prefix_hits}}},
      {"evicted_blocks", store.evicted_blocks},
      {"allocation_failures", store.allocation_failures},
      {"requests", requests},
      {"failed_requests", totals.failed_requests},
      {"connections", connections},
      {"fetched_rows", totals.fetched_rows},
      {"fetched_bytes", totals.fetched_bytes},
      {"appended_bytes", totals.appended_bytes},
      {"slice_bytes", totals.slice_bytes},
      {"read_bytes", totals.read_bytes},
      {"selected_rows", totals.selected_rows},
      {"hot_rows", totals.hot_rows},
      {"full_attention_bytes", totals.full_attention_bytes},
  };
  return json.dump();
}

}  // namespace passband::server
