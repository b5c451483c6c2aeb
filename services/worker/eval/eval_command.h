// The subcommand `eval`: measures selection methods on the tasks.
//
// Threads  used by main only.
#pragma once

#include <CLI/CLI.hpp>

#include "services/console/command.h"

namespace passband {

void AddEvalCommand(CLI::App& app, CommandRunner& runner);

}  // namespace passband
