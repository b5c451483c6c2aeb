// ServerFlags: which server a command is about, how long it may take to answer, and what the
// outcome is printed as.
//
// Units    the timeout as text with its unit, as in 5s.
// Threads  used before any are started.
#pragma once

#include <string>

#include "base/tls_files.h"
#include "sdk/operator_client.h"

namespace CLI {
class App;
}

namespace passband {

struct ServerFlags {
  std::string server = "127.0.0.1:50061";
  std::string answer_within = "5s";
  TlsFiles tls;
  std::string tls_server_name;
  bool json = false;

  void AddTo(CLI::App& command);
  // kInvalidArgument: what is wrong with the certificates, file by file.
  StatusOr<OperatorClient::Options> client() const;
};

// Checks of option values, "" when they are right: a duration with its unit; host:port.
std::string CheckDuration(const std::string& text);
std::string CheckAddress(const std::string& text);

}  // namespace passband
