#include "services/cli/http_address.h"

namespace passband {

std::string HttpAddress(const ServerInfo& info, const std::string& server) {
  const size_t port = info.http_address.rfind(':');
  if (port == std::string::npos) return "";
  const std::string host = info.http_address.substr(0, port);
  const bool everywhere = host == "0.0.0.0" || host == "[::]";
  return (everywhere ? server.substr(0, server.rfind(':')) : host) + info.http_address.substr(port);
}

}  // namespace passband
