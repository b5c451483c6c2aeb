// Settings: what an operator decides about a server, checked as a whole.
//
// Each is a flag, an environment variable (PASSBAND_...) and a key of the optional YAML
// file, in that order of falling strength.
//
// Units    in the names.
// Threads  plain values.
// Errors   kInvalidArgument lists everything that is wrong, one line each, with what to do;
//          kCancelled: help or version was printed.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/tls_files.h"
#include "kvstore/tenant_table.h"
#include "kvstore/types.h"

namespace passband::server {

inline constexpr uint16_t kDefaultControlPort = 50061;
inline constexpr uint16_t kDefaultDataPort = 50062;
inline constexpr uint16_t kDefaultHttpPort = 9461;

// Who may call as an operator (operator_policy.h).
struct OperatorPolicy {
  enum class Who : uint8_t { kLocal, kAnybody, kNamed };
  Who who = Who::kLocal;
  std::vector<std::string> names;  // kNamed; empty: nobody
};

struct Settings {
  std::string host = "127.0.0.1";
  uint16_t control_port = kDefaultControlPort;  // 0: any free one
  uint16_t data_port = kDefaultDataPort;        // the first of data_threads; 0: any
  uint16_t http_port = kDefaultHttpPort;
  std::string net_devices = "lo";  // UCX's names, comma-separated; empty: all
  std::string transports = "auto";
  bool data_ucx = true;  // how rows travel: one of the two at least
  bool data_grpc = false;
  TlsFiles tls;  // of the gRPC port; `ca` signs clients
  OperatorPolicy operators;

  uint64_t ram_bytes = uint64_t{4} << 30;
  uint64_t staging_bytes = uint64_t{64} << 20;      // of each data thread
  uint64_t slice_cache_bytes = uint64_t{64} << 20;  // beside ram_bytes; 0: none
  bool huge_pages = true;
  bool lock_memory = false;

  std::string spill_dir;  // empty: RAM is all there is
  uint64_t spill_limit_bytes = uint64_t{64} << 30;
  FullTierPolicy spill_full = FullTierPolicy::kDropOldest;
  uint64_t spill_rate = 0;  // bytes a second; 0: as fast as the device
  // Of ram_bytes: above `low` blocks are written behind, above `high` they leave RAM.
  double low_watermark = 0.80;
  double high_watermark = 0.95;

  uint32_t data_threads = 1;
  std::chrono::nanoseconds lease = std::chrono::seconds(30);
  std::chrono::nanoseconds stop_timeout = std::chrono::seconds(10);
  std::chrono::nanoseconds sequence_ttl{};  // zero: none
  uint64_t pin_limit_bytes = 0;             // of each tenant
  uint64_t max_sequences = 100'000;
  uint64_t max_sessions = 4096;
  TenantQuota tenant_quota;  // of each tenant but those named here:
  TenantTable::Quotas tenant_quotas;

  std::string log_level = "info";
  std::string log_format = "text";
  std::string ready_file;
};

// Reads the command line, the environment and the file.
StatusOr<Settings> LoadSettings(int argc, const char* const* argv);

}  // namespace passband::server
