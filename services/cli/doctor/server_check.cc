#include "services/cli/doctor/server_check.h"

#include <fmt/format.h>

#include "base/clock.h"
#include "base/units.h"
#include "base/version.h"
#include "sdk/operator_client.h"
#include "sdk/remote_service.h"

namespace passband::doctor {
namespace {

constexpr std::chrono::milliseconds kPatience{2000};

Finding CheckAnswer(const ServerInfo& info, const std::string& server) {
  const std::string what =
      fmt::format("version {} at {}, up {}", info.version, server, FormatSpan(info.uptime_seconds));
  if (info.draining) {
    return Warn("server", what + ", draining", "It takes nothing new until it is started again");
  }
  if (info.version == kVersion) return Pass("server", what);
  return Warn("server", fmt::format("{}; this is {}", what, kVersion),
              "Bring both to one version when the update is over");
}

Finding CheckRows(const ServerFlags& flags) {
  RemoteOptions options;
  options.control_address = flags.server;
  options.client = "passband doctor";
  options.tls = flags.tls;
  options.tls_server_name = flags.tls_server_name;
  const RealClock clock;
  const Time start = clock.Now();
  const auto service = RemoteService::Connect(options);
  if (!service.ok()) {
    return Fail("rows", fmt::format("no data connection: {}", Message(service.status())),
                "Open the data port and the way back to this machine: UCX connects both ways");
  }
  const std::string transport = (*service)->transport();
  const std::string what = fmt::format("over {}, connected in {}", transport,
                                       FormatSeconds(Seconds(clock.Now() - start)));
  const bool here = flags.server.rfind("127.", 0) == 0 || flags.server.rfind("localhost", 0) == 0;
  if (!here || transport == "shm" || transport == "grpc+tls") return Pass("rows", what);
  return Warn("rows", what + ", and the server is on this machine",
              "Shared memory needs one network and IPC namespace and /dev/shm at both ends");
}

}  // namespace

std::vector<Finding> CheckServer(const ServerFlags& flags, bool asked) {
  auto options = flags.client();
  if (!options.ok()) {
    return {Fail("server", Message(options.status()), "Mend the certificates named")};
  }
  options->timeout = std::min(options->timeout, kPatience);
  const auto info = OperatorClient(*options).Info();
  if (!info.ok() && !asked) return {Skip("server", "none at " + flags.server)};
  if (!info.ok()) {
    return {Fail("server", Message(info.status()), "Start it, or name another with --server")};
  }
  return {CheckAnswer(*info, flags.server), CheckRows(flags)};
}

}  // namespace passband::doctor
