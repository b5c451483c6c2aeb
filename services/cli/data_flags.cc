#include "services/cli/data_flags.h"

#include <CLI/CLI.hpp>

#include "base/units.h"

namespace passband {

void DataFlags::AddTo(CLI::App& command) {
  command
      .add_option("--tenant", tenant,
                  "Whose quota pays. Default: whom the certificate names, or default")
      ->type_name("NAME")
      ->envname("PASSBAND_TENANT");
  command
      .add_option("--data-plane", data_plane,
                  "How rows travel: ucx, grpc, or auto: ucx, unless the server has none or TLS "
                  "is on")
      ->check(CLI::IsMember({"auto", "ucx", "grpc"}))
      ->capture_default_str();
  command
      .add_option("--transports", transports,
                  "UCX transports, as the server's: auto, or a list such as tcp,self")
      ->type_name("LIST")
      ->envname("PASSBAND_TRANSPORTS")
      ->capture_default_str();
  command.add_option("--net-devices", net_devices, "Interfaces for rows, as the server's")
      ->type_name("NAMES")
      ->envname("PASSBAND_NET_DEVICES");
}

StatusOr<RemoteOptions> DataFlags::remote(const ServerFlags& server,
                                          const std::string& client) const {
  PASSBAND_RETURN_IF_ERROR(server.client().status());
  RemoteOptions options;
  options.control_address = server.server;
  options.tenant = tenant;
  options.client = client;
  options.connect_timeout = options.control_timeout = options.append_retry_budget =
      std::chrono::duration_cast<std::chrono::milliseconds>(*ParseDuration(server.answer_within));
  options.data_plane = data_plane;
  options.tls = server.tls;
  options.tls_server_name = server.tls_server_name;
  options.transports = transports;
  options.net_devices = net_devices;
  return options;
}

}  // namespace passband
