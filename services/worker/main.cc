// passband-worker: the reference worker.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/help_format.h"
#include "base/version.h"
#include "services/console/command.h"
#include "services/worker/demo_command.h"
#include "services/worker/eval/eval_command.h"
#include "services/worker/generate_command.h"

namespace {

constexpr char kAbout[] =
    "Runs a language model whose keys and values live in a passband-server, or in a store of "
    "its own. Of every key it holds a slice of 12 to 24 bytes; slices predict which tokens a "
    "query attends to, and only the rows (key and value) of those are fetched.";
constexpr char kFooter[] =
    "Examples:\n"
    "  passband-worker generate --model models/books-13m --prompt 'It was the '\n"
    "  passband-worker generate --model models/books-13m --server 127.0.0.1:50061 \\\n"
    "      --prompt-file book.txt --max-tokens 200\n"
    "  passband-worker COMMAND --help       the flags of a command\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the server cannot be reached or is\n"
    "gone.";

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{kAbout, "passband-worker"};
  passband::UseHelpFormat(app);
  app.set_version_flag("--version", std::string("passband-worker ") + passband::kVersion);
  app.require_subcommand(1);
  app.footer(kFooter);
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
