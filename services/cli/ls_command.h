// `passband ls`: the sequences of a server, of all tenants or of one.
//
// Threads  one at a time.
#pragma once

#include <CLI/CLI.hpp>

#include "services/console/command.h"

namespace passband {

// Adds the subcommand to `app`; it runs after parsing.
void AddLsCommand(CLI::App& app, CommandRunner& runner);

}  // namespace passband
