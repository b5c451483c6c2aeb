#include "services/server/ready_file.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/version.h"

namespace passband::server {

std::string HostPort(const std::string& host, uint16_t port) {
  const bool bare_ipv6 = host.find(':') != std::string::npos && host.front() != '[';
  return fmt::format("{}:{}", bare_ipv6 ? "[" + host + "]" : host, port);
}

Status WriteReadyFile(const std::string& path, const Endpoints& endpoints) {
  const nlohmann::json json = {
      {"pid", getpid()},
      {"version", kVersion},
      {"host", endpoints.host},
      {"control_port", endpoints.control_port},
      {"data_port", endpoints.data_port},
      {"http_port", endpoints.http_port},
      {"control_address", HostPort(endpoints.host, endpoints.control_port)},
  };
  const std::string temporary = fmt::format("{}.{}", path, getpid());
  {
    std::ofstream file(temporary);
    file << json.dump(2) << "\n";
    file.close();
    if (!file) return Error(StatusCode::kUnavailable, "cannot write --ready-file {}", path);
  }
  if (std::rename(temporary.c_str(), path.c_str()) == 0) return OkStatus();
  std::remove(temporary.c_str());
  return Error(StatusCode::kUnavailable, "cannot write --ready-file {}", path);
}

}  // namespace passband::server
