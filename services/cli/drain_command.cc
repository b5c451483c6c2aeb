#include "services/cli/drain_command.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/units.h"
#include "services/cli/figures.h"
#include "services/cli/server_flags.h"
#include "services/console/interruption.h"
#include "services/console/terminal.h"

namespace passband {
namespace {

using Json = nlohmann::ordered_json;

struct Flags {
  ServerFlags server;
  std::string timeout = "5m";
  bool no_wait = false;
};

constexpr std::chrono::milliseconds kLookEvery{250};
constexpr char kExamples[] =
    "Examples:\n"
    "  passband drain && systemctl stop passband-server\n"
    "  passband drain --timeout 30m\n"
    "  passband drain --no-wait\n\n"
    "From now on the server takes no new sessions or sequences, /readyz says 503 and\n"
    "health checks NOT_SERVING. What is open goes on: workers finish and leave.\n"
    "Ending this command does not end the draining; only a restart of the server\n"
    "does.\n"
    "Exit code 1 when something was still open after the timeout.";

std::string Left(const ServerInfo& info) {
  return Counted(info.sequences_open, "open sequence") + ", " + Counted(info.sessions, "session");
}

bool Drained(const ServerInfo& info) { return info.sequences_open == 0 && info.sessions == 0; }

// What is left, on standard error: one line redrawn, or a line for each change.
class Countdown {
 public:
  ~Countdown() {
    if (terminal_.interactive && !shown_.empty()) std::fputs("\r\033[K", stderr);
  }
  void Show(const ServerInfo& info) {
    const std::string line = "draining  " + Left(info);
    if (line == shown_) return;
    shown_ = line;
    fmt::print(stderr, "{}", terminal_.interactive ? "\r" + line + "\033[K" : line + "\n");
    std::fflush(stderr);
  }

 private:
  const Terminal terminal_ = Terminal::Of(stderr);
  std::string shown_;
};

// Until nothing is open, the time is over (kAborted) or somebody interrupts (kCancelled). `info`
// is what was seen last.
Status AwaitDrained(OperatorClient& client, const Interruption& interruption, Duration timeout,
                    ServerInfo& info) {
  const RealClock clock;
  const Time deadline = clock.Now() + timeout;
  Countdown countdown;
  while (true) {
    PASSBAND_ASSIGN_OR_RETURN(info, client.Info());
    if (Drained(info)) return OkStatus();
    countdown.Show(info);
    if (clock.Now() >= deadline) {
      return Error(StatusCode::kAborted,
                   "{} still there when the time was over; the server goes on draining: run this "
                   "again to wait longer, or see who is left with passband ls",
                   Left(info));
    }
    if (interruption.Within(kLookEvery)) {
      return Error(StatusCode::kCancelled, "interrupted; the server goes on draining ({})",
                   Left(info));
    }
  }
}

void Print(const ServerInfo& info, double waited, bool json) {
  if (json) {
    const Json out = {{"schema", "passband.drain/v1"},
                      {"drained", Drained(info)},
                      {"open_sequences", info.sequences_open},
                      {"sessions", info.sessions},
                      {"sealed_sequences", info.sequences_sealed},
                      {"waited_seconds", waited}};
    fmt::print("{}\n", out.dump(2));
  } else if (Drained(info)) {
    fmt::print("drained: nothing is open, the server can be stopped ({} go with it)\n",
               Counted(info.sequences_sealed, "sealed sequence"));
  } else {
    fmt::print("draining: {} go on, nothing new is taken\n", Left(info));
  }
}

Status RunDrain(const Flags& flags) {
  // Before any thread starts, so that all of them inherit it.
  const Interruption interruption;
  PASSBAND_ASSIGN_OR_RETURN(const OperatorClient::Options options, flags.server.client());
  OperatorClient client(options);
  const RealClock clock;
  const Time started = clock.Now();
  PASSBAND_RETURN_IF_ERROR(client.Drain());
  ServerInfo info;
  Status outcome;
  if (flags.no_wait) {
    PASSBAND_ASSIGN_OR_RETURN(info, client.Info());
  } else {
    outcome = AwaitDrained(client, interruption, *ParseDuration(flags.timeout), info);
    const bool known = outcome.ok() || outcome.code() == StatusCode::kAborted;
    if (!known || (!outcome.ok() && !flags.server.json)) return outcome;
  }
  Print(info, Seconds(clock.Now() - started), flags.server.json);
  return outcome;
}

}  // namespace

void AddDrainCommand(CLI::App& app, CommandRunner& runner) {
  CLI::App* command =
      app.add_subcommand("drain", "Let a server finish what is open and take nothing new");
  const auto flags = std::make_shared<Flags>();
  flags->server.AddTo(*command);
  command->add_option("--timeout", flags->timeout, "Wait so long for what is open to end")
      ->type_name("TIME")
      ->check(CheckDuration)
      ->capture_default_str();
  command->add_flag("--no-wait", flags->no_wait, "Do not wait; only begin");
  command->footer(kExamples);
  command->callback([flags, &runner] { runner.Choose([flags] { return RunDrain(*flags); }); });
}

}  // namespace passband
