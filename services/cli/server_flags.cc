#include "services/cli/server_flags.h"

#include <CLI/CLI.hpp>

#include "base/units.h"

namespace passband {

std::string CheckAddress(const std::string& text) {
  const size_t colon = text.rfind(':');
  const std::string port = colon == std::string::npos ? "" : text.substr(colon + 1);
  const bool number = !port.empty() && port.size() <= 5 &&
                      port.find_first_not_of("0123456789") == std::string::npos &&
                      std::stoul(port) > 0 && std::stoul(port) <= 65535;
  if (colon != 0 && number) return "";
  return "'" + text + "' is no address; write host:port, as in 127.0.0.1:50061";
}

std::string CheckDuration(const std::string& text) {
  const auto duration = ParseDuration(text);
  return duration.ok() ? std::string() : Message(duration.status());
}

void ServerFlags::AddTo(CLI::App& command) {
  command.add_option("--server", server, "Control plane of the passband-server")
      ->type_name("HOST:PORT")
      ->envname("PASSBAND_SERVER")
      ->check(CheckAddress)
      ->capture_default_str();
  command
      .add_option("--answer-within", answer_within,
                  "Give up when the server has not answered after this time")
      ->type_name("TIME")
      ->envname("PASSBAND_ANSWER_WITHIN")
      ->check(CheckDuration)
      ->capture_default_str();
  command
      .add_option("--tls-ca", tls.ca, "Encrypt; the server's certificate is signed by this (PEM)")
      ->type_name("FILE")
      ->envname("PASSBAND_TLS_CA");
  command.add_option("--tls-cert", tls.certificate, "Client certificate (PEM)")
      ->type_name("FILE")
      ->envname("PASSBAND_TLS_CLIENT_CERT");
  command.add_option("--tls-key", tls.key, "Its private key (PEM)")
      ->type_name("FILE")
      ->envname("PASSBAND_TLS_CLIENT_KEY");
  command
      .add_option("--tls-server-name", tls_server_name,
                  "What the server's certificate calls it, if not the host in --server")
      ->type_name("NAME");
  command.add_flag("--json", json, "Print JSON, for programs: plain bytes, seconds and counts");
}

StatusOr<OperatorClient::Options> ServerFlags::client() const {
  PASSBAND_ASSIGN_OR_RETURN(TlsTexts texts, LoadTlsFiles(tls, {}));
  return OperatorClient::Options{.address = server,
                                 .tls = std::move(texts),
                                 .server_name = tls_server_name,
                                 .timeout = std::chrono::duration_cast<std::chrono::milliseconds>(
                                     *ParseDuration(answer_within))};
}

}  // namespace passband
