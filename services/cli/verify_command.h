// `passband verify`: what a stopped server's spill directory holds, and what of it is damaged.
//
// Threads  one at a time.
#pragma once

#include <CLI/CLI.hpp>

#include "services/console/command.h"

namespace passband {

// Adds the subcommand to `app`; it runs after parsing.
void AddVerifyCommand(CLI::App& app, CommandRunner& runner);

}  // namespace passband
