// The floor under a fetch: one request, one gather, one reply between two pinned
// processes, with nothing else of Passband around it.
//
// Units    seconds, bytes.
// Process  forks a server and a client and reaps them: call it in a process that has
//          not used UCX.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace passband::bench {

struct RawFetchOptions {
  std::string tls = "posix";  // What UCX may use; see UcxOptions.
  uint64_t pool_bytes = uint64_t{1} << 30;
  uint32_t rows = 2048;
  uint32_t row_bytes = 512;
  uint32_t requests = 2000;
  uint32_t warmup = 100;
  int server_cpu = 0;
  int client_cpu = 1;
};

struct RawFetchResult {
  std::string transport;        // As UCX reports it.
  std::vector<double> seconds;  // Of each request, from send to the last byte received.
};

// Every tenth reply is checked row by row; a wrong row is kDataLoss.
StatusOr<RawFetchResult> MeasureRawFetch(const RawFetchOptions& options);

}  // namespace passband::bench
