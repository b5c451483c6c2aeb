// passband-worker: the reference worker.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/version.h"
#include "services/worker/command.h"
#include "services/worker/demo_command.h"
#include "services/worker/eval/eval_command.h"
#include "services/worker/generate_command.h"

int main(int argc, char** argv) {
  CLI::App app{"passband-worker: runs a model whose keys and values live in Passband"};
  app.set_version_flag("--version", passband::kVersion);
  app.require_subcommand(1);
  passband::CommandRunner runner;
  passband::AddGenerateCommand(app, runner);
  passband::AddEvalCommand(app, runner);
  passband::AddDemoCommand(app, runner);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : passband::kExitUsage;
  }
  const passband::Status status = runner.Run();
  if (!status.ok()) fmt::print(stderr, "passband-worker: {}\n", passband::Message(status));
  return passband::ExitCode(status);
}
