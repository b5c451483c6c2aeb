// passband: the operator's command.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>

#include "base/version.h"
#include "services/cli/calibrate_command.h"
#include "services/cli/command.h"

int main(int argc, char** argv) {
  CLI::App app{"passband: see and steer a Passband service, and make profiles for it"};
  app.set_version_flag("--version", passband::kVersion);
  app.require_subcommand(1);
  passband::CommandRunner runner;
  passband::AddCalibrateCommand(app, runner);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : 2;
  }
  const passband::Status status = runner.Run();
  if (!status.ok()) fmt::print(stderr, "passband: {}\n", passband::Message(status));
  return passband::ExitCode(status);
}
