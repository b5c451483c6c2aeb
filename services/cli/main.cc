// passband: the operator's command.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/config.h"
#include "base/help_format.h"
#include "base/version.h"
#include "services/cli/bench/bench_command.h"
#include "services/cli/calibrate_command.h"
#include "services/cli/doctor/doctor_command.h"
#include "services/cli/drain_command.h"
#include "services/cli/inspect_command.h"
#include "services/cli/ls_command.h"
#include "services/cli/status_command.h"
#include "services/cli/top/top_command.h"
#include "services/cli/verify_command.h"
#include "services/console/command.h"

namespace {

constexpr char kAbout[] =
    "See and steer a Passband service, and make profiles for it.\n\n"
    "Settings come from a flag, the environment variable named beside it, or a line of the "
    "--config file; the first of these that is given wins. ls, inspect and drain ask for what "
    "belongs to every tenant: a server answers them to whom its --operators names: by default "
    "callers on its own machine.";
constexpr char kFooter[] =
    "Examples:\n"
    "  passband status                      what the server on this machine saves\n"
    "  passband top                         the same and more, live\n"
    "  passband ls --tenant search          one tenant's sequences\n"
    "  passband inspect 42                  all about one of them\n"
    "  passband drain --timeout 10m         before stopping or updating a server\n"
    "  passband bench fetch --workers 8      how fast it is from here\n"
    "  passband verify --spill-dir PATH     what a stopped server left on its disk\n"
    "  passband doctor --ram 64GiB          is this machine fit for a server\n"
    "  passband COMMAND --help              the flags of a command\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the server cannot be reached,\n"
    "or the directory to verify cannot be opened.";

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{kAbout, "passband"};
  passband::UseHelpFormat(app);
  app.set_version_flag("--version", std::string("passband ") + passband::kVersion);
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(kFooter);
  // Not PASSBAND_CONFIG: that is a server's, and often set where this runs.
  passband::AddConfigFlag(app, "PASSBAND_CLI_CONFIG");
  passband::CommandRunner runner;
  passband::AddStatusCommand(app, runner);
  passband::AddTopCommand(app, runner);
  passband::AddLsCommand(app, runner);
  passband::AddInspectCommand(app, runner);
  passband::AddDrainCommand(app, runner);
  passband::AddBenchCommand(app, runner);
  passband::AddCalibrateCommand(app, runner);
  passband::AddVerifyCommand(app, runner);
  passband::AddDoctorCommand(app, runner);
  const passband::Status loaded = passband::LoadConfig(app, argc, argv);
  if (loaded.code() == passband::StatusCode::kCancelled) return 0;
  if (!loaded.ok()) {
    fmt::print(stderr, "passband: {}\n", passband::Message(loaded));
    return passband::kExitUsage;
  }
  const passband::Status status = runner.Run();
  if (!status.ok()) fmt::print(stderr, "passband: {}\n", passband::Message(status));
  return passband::ExitCode(status);
}
