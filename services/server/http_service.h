// HttpService: what people and monitoring read: /metrics, /healthz, /readyz, /version,
// /status.json and a status page at /.
//
// Threads    safe; its own threads (one accepts, two serve).
// Ownership  the sources must outlive it.
// Errors     kUnavailable when the address cannot be had.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace passband::server {

class HttpService {
 public:
  struct Sources {
    std::function<std::string()> metrics;  // Prometheus's text format
    std::function<std::string()> status_json;
    std::function<bool()> ready;
    std::function<bool()> draining;
  };

  // Port 0: any free one.
  static StatusOr<std::unique_ptr<HttpService>> Start(const std::string& host, uint16_t port,
                                                      Sources sources);
  ~HttpService();
  HttpService(const HttpService&) = delete;
  HttpService& operator=(const HttpService&) = delete;

  uint16_t port() const;
  // All that it answers, to GET alone; the rest is 404.
  static std::vector<std::string> Paths();

 private:
  struct Impl;
  explicit HttpService(std::unique_ptr<Impl> impl);

  const std::unique_ptr<Impl> impl_;
};

}  // namespace passband::server
