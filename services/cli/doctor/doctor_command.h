// `passband doctor`: what of this machine is not as a server or worker needs it, and the fix.
//
// Threads  one at a time.
#pragma once

#include <CLI/CLI.hpp>

#include "services/console/command.h"

namespace passband {

// Adds the subcommand to `app`; it runs after parsing.
void AddDoctorCommand(CLI::App& app, CommandRunner& runner);

}  // namespace passband
