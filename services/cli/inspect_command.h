// `passband inspect SEQUENCE`: all that a server knows of one sequence.
//
// Threads  one at a time.
#pragma once

#include <CLI/CLI.hpp>

#include "services/console/command.h"

namespace passband {

// Adds the subcommand to `app`; it runs after parsing.
void AddInspectCommand(CLI::App& app, CommandRunner& runner);

}  // namespace passband
