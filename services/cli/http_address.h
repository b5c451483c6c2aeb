// HttpAddress: where a server's HTTP port is, for whoever reached its control port.
//
// Threads  pure functions.
#pragma once

#include <string>

#include "sdk/operator_client.h"

namespace passband {

// host:port, or "" when it tells none. A server that listens on every interface knows no better
// name than the one in `server`, the host:port that reached it.
std::string HttpAddress(const ServerInfo& info, const std::string& server);

}  // namespace passband
