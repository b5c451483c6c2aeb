#include "services/cli/top/top_command.h"

#include <CLI/CLI.hpp>

#include "base/units.h"
#include "sdk/operator_client.h"
#include "services/cli/http_address.h"
#include "services/cli/server_flags.h"
#include "services/cli/top/top_loop.h"

namespace passband {
namespace {

constexpr char kExamples[] =
    "Examples:\n"
    "  passband top\n"
    "  passband top --server memory-node-1:50061 --interval 2s\n"
    "  passband top --once                       one screen, as text\n"
    "  passband top --json | jq -c .saved        a line for each look\n\n"
    "Everything is of the time between two looks: what was saved of attention's\n"
    "traffic, requests by method and transport, how long they took (from histograms:\n"
    "within a bucket, reckoned), memory by tier, tenants, and what to look after.\n"
    "The server's HTTP port tells it; the control port tells where that is.\n"
    "Off a terminal: one line for each look. A screen goes on trying when the server\n"
    "goes away; elsewhere that ends the command with exit code 3. Ctrl-C, q: 0.";

struct Flags {
  ServerFlags server;
  std::string http;
  std::string interval = "1s";
  uint64_t count = 0;
  bool once = false;
};

std::string CheckInterval(const std::string& text) {
  const auto interval = ParseDuration(text);
  if (!interval.ok()) return Message(interval.status());
  const bool fits =
      *interval >= std::chrono::milliseconds(100) && *interval <= std::chrono::hours(1);
  return fits ? "" : "'" + text + "': give a time from 100ms to 1h";
}

StatusOr<std::string> MetricsAddress(const Flags& flags, const OperatorClient::Options& options) {
  if (!flags.http.empty()) return flags.http;
  PASSBAND_ASSIGN_OR_RETURN(const ServerInfo info, OperatorClient(options).Info());
  const std::string address = HttpAddress(info, flags.server.server);
  if (!address.empty()) return address;
  return Error(StatusCode::kFailedPrecondition,
               "the server does not say where its metrics are; name its HTTP port with --http");
}

Status RunTopCommand(const Flags& flags) {
  const Interruption interruption;
  PASSBAND_ASSIGN_OR_RETURN(const OperatorClient::Options client, flags.server.client());
  top::TopOptions options{.server = flags.http.empty() ? flags.server.server : flags.http,
                          .timeout = client.timeout,
                          .count = flags.count,
                          .once = flags.once,
                          .json = flags.server.json};
  options.interval =
      std::chrono::duration_cast<std::chrono::milliseconds>(*ParseDuration(flags.interval));
  PASSBAND_ASSIGN_OR_RETURN(options.metrics, MetricsAddress(flags, client));
  Status status = RunTop(options, interruption);
  if (status.code() != StatusCode::kUnavailable || !flags.http.empty()) return status;
  return Error(status.code(),
               "{}; if its HTTP port has another address from here, name it with --http",
               Message(status));
}

}  // namespace

void AddTopCommand(CLI::App& app, CommandRunner& runner) {
  CLI::App* command = app.add_subcommand("top", "What a server does, live: saved, rates, memory");
  const auto flags = std::make_shared<Flags>();
  flags->server.AddTo(*command);
  command
      ->add_option(
          "--http", flags->http,
          "Its HTTP port, if not where the server says; the control port is then not asked")
      ->type_name("HOST:PORT")
      ->envname("PASSBAND_HTTP")
      ->check(CheckAddress);
  command->add_option("--interval", flags->interval, "Look again after this time")
      ->type_name("TIME")
      ->check(CheckInterval)
      ->capture_default_str();
  CLI::Option* count =
      command->add_option("--count", flags->count, "End after so many looks. 0: never")
          ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 40));
  command->add_flag("--once", flags->once, "Look twice, one interval apart, print it and end")
      ->excludes(count);
  command->footer(kExamples);
  command->callback([flags, &runner] { runner.Choose([flags] { return RunTopCommand(*flags); }); });
}

}  // namespace passband
