// WriteReadyFile: tells whoever started the server where it listens.
//
// {"pid": 1, "version": "0.1.0", "host": "127.0.0.1", "control_port": 50061,
//  "data_port": 50062, "http_port": 9461, "control_address": "127.0.0.1:50061"}
//
// Threads  safe.
// Errors   kUnavailable when the file cannot be written.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace passband::server {

struct Endpoints {
  std::string host;
  uint16_t control_port = 0;
  uint16_t data_port = 0;  // the first; 0: any, chosen by UCX
  uint16_t http_port = 0;
};

// "host:port", with brackets around an IPv6 address.
std::string HostPort(const std::string& host, uint16_t port);

// Writes beside `path`, then renames: a reader sees the whole file or none.
Status WriteReadyFile(const std::string& path, const Endpoints& endpoints);

}  // namespace passband::server
