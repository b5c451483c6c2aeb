// DataFlags: how a command that moves rows reaches a server's data plane, and as whom.
//
// Threads  used before any are started.
#pragma once

#include <string>

#include "sdk/remote_service.h"
#include "services/cli/server_flags.h"

namespace passband {

struct DataFlags {
  std::string tenant;
  std::string data_plane = "auto";
  std::string transports = "auto";
  std::string net_devices;

  void AddTo(CLI::App& command);
  // kInvalidArgument: what is wrong with the certificates. `client`: as the server's people see it.
  StatusOr<RemoteOptions> remote(const ServerFlags& server, const std::string& client) const;
};

}  // namespace passband
