// EmbeddedService: KvService over a store in this process: for one worker that
// keeps its contexts in its own host's RAM, and for tests.
//
// The same answers as a server's, with no network: fetches and appends are done
// when the call returns. An append that finds the RAM full waits in the call, as
// long as a RemoteService would try again.
//
// Units      bytes.
// Threads    safe.
// Ownership  owns the store. PendingRows hold copies and may outlive it.
// Errors     kv_service.h, but never kUnavailable or kDeadlineExceeded.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "sdk/kv_service.h"

namespace passband {

struct EmbeddedOptions {
  uint64_t ram_bytes = uint64_t{1} << 30;
  std::string tenant = "default";
  // Touches every page at creation; else pages come as they are used.
  bool pre_touch = false;
  std::chrono::milliseconds append_retry_budget{10'000};
  // Of sequences that ask for none; zero: they stay until they are closed.
  std::chrono::milliseconds sequence_ttl{};
  uint64_t pin_limit_bytes = 0;  // of each tenant
};

class EmbeddedService {
 public:
  static StatusOr<std::unique_ptr<KvService>> Create(uint64_t ram_bytes,
                                                     const std::string& tenant = "default");
  static StatusOr<std::unique_ptr<KvService>> Create(const EmbeddedOptions& options);
  // The same store for another tenant; both services share it.
  static std::unique_ptr<KvService> ForTenant(const KvService& service, const std::string& tenant);
};

}  // namespace passband
