// `passband status`: how one server is, on one screen; what it saved comes first.
//
// Threads  one at a time.
#pragma once

#include <CLI/CLI.hpp>

#include "services/console/command.h"

namespace passband {

// Adds the subcommand to `app`; it runs after parsing.
void AddStatusCommand(CLI::App& app, CommandRunner& runner);

}  // namespace passband
