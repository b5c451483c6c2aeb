// `passband drain`: lets a server finish what it has and take nothing new.
//
// Threads  one at a time.
#pragma once

#include <CLI/CLI.hpp>

#include "services/console/command.h"

namespace passband {

// Adds the subcommand to `app`; it runs after parsing.
void AddDrainCommand(CLI::App& app, CommandRunner& runner);

}  // namespace passband
