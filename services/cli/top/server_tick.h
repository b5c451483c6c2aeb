// ServerTick: what a server did between two looks at its metrics, and how it is now.
//
// Units    in the names; shares from 0 to 1, NaN where nothing happened that they are a share of.
// Threads  plain values; pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "services/cli/top/metric_page.h"

namespace passband::top {

// A look at the metrics, and when it was.
struct Look {
  MetricPage page;
  double at_seconds = 0;  // of any steady clock
};

struct TrafficRate {
  std::string method;
  std::string transport;  // empty: all together
  double requests_per_second = 0;
  double rows_per_second = 0;   // NaN: not counted by transport
  double bytes_per_second = 0;  // NaN: not counted by transport
  double failed_per_second = 0;
  double p50_seconds = 0;
  double p90_seconds = 0;
  double p99_seconds = 0;
};

struct TenantUse {
  std::string name;
  uint64_t bytes = 0;
  uint64_t ram_bytes = 0;
  uint64_t sequences = 0;
  double quota_bytes = 0;      // NaN: none
  double quota_sequences = 0;  // NaN: none
  double rejections_per_second = 0;
};

struct Saved {
  double fetched_bytes = 0;
  double full_attention_bytes = 0;

  double share() const;
};

struct ServerTick {
  std::string version;
  double uptime_seconds = 0;
  bool ready = false;
  bool draining = false;
  double seconds = 0;      // between the two looks
  bool restarted = false;  // between them: all rates count from the new start

  Saved saved_now;  // between the looks
  Saved saved_since_start;
  double hot_row_share = 0;
  double prefix_hit_share = 0;
  double slice_hit_share = 0;
  double ram_read_share = 0;  // of blocks that requests needed

  std::vector<TrafficRate> traffic;  // by method; behind it its transports, where it has several

  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;  // cached ones included
  uint64_t cached_bytes = 0;
  uint64_t pinned_bytes = 0;
  uint64_t slice_bytes = 0;
  uint64_t slice_capacity_bytes = 0;
  uint64_t staging_bytes = 0;
  uint64_t staging_capacity_bytes = 0;
  bool has_disk = false;
  uint64_t disk_capacity_bytes = 0;
  uint64_t disk_bytes = 0;
  uint64_t both_bytes = 0;  // in RAM and on disk
  uint64_t pending_spill_bytes = 0;
  double spill_written_per_second = 0;
  double spill_read_per_second = 0;

  uint64_t sessions = 0;
  uint64_t sequences_open = 0;
  uint64_t sequences_sealed = 0;
  uint64_t stored_tokens = 0;
  std::vector<std::pair<std::string, uint64_t>> connections;  // by transport, those with some
  std::vector<TenantUse> tenants;                             // who uses most RAM first

  double cpu_cores = 0;
  uint64_t resident_bytes = 0;

  std::vector<std::string> warnings;
};

// `before` may be the same look as `now`: then nothing happened. kUnavailable when `now` is
// no page of a passband-server.
StatusOr<ServerTick> MakeTick(const Look& before, const Look& now);

}  // namespace passband::top
