// MetricsEndpoint: what a worker holds and moves, for Prometheus: GET /metrics.
//
// The decoding thread publishes after each step; a scrape sees the last that was published.
//
// Units      in the names.
// Threads    safe; its own thread serves.
// Errors     kInvalidArgument for an address that is none, kUnavailable for one that is taken.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "services/worker/memory_report.h"

namespace passband {

class MetricsEndpoint {
 public:
  // Does not change while the worker runs.
  struct Identity {
    std::string model;
    std::string method;
    std::string transport;
  };
  struct Snapshot {
    EngineStats steps;
    MemoryReport memory;
    uint64_t sequences = 0;
    uint64_t decoded_tokens = 0;
    double decode_seconds = 0;
  };

  struct Address {
    std::string host;
    uint16_t port = 0;  // 0: any free one
  };
  // "host:port"
  static StatusOr<Address> Parse(const std::string& text);

  static StatusOr<std::unique_ptr<MetricsEndpoint>> Start(const std::string& address,
                                                          Identity identity);
  ~MetricsEndpoint();
  MetricsEndpoint(const MetricsEndpoint&) = delete;
  MetricsEndpoint& operator=(const MetricsEndpoint&) = delete;

  void Publish(const Snapshot& snapshot);
  uint16_t port() const;

 private:
  struct Impl;
  explicit MetricsEndpoint(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace passband
