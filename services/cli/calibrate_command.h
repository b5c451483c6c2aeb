// `passband calibrate`: makes a profile for a checkpoint from a text.
//
// Runs one book document and one recall document through the model with exact
// attention, captures queries and keys, and chooses chunks (profile/).
//
// Threads  one at a time; calibration runs its own.
#pragma once

#include <CLI/CLI.hpp>

#include "services/console/command.h"

namespace passband {

// Adds the subcommand to `app`; it runs after parsing.
void AddCalibrateCommand(CLI::App& app, CommandRunner& runner);

}  // namespace passband
