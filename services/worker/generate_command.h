// The subcommand `generate`: continues prompts, with their keys and values in
// the service.
//
// Threads  used by main only.
#pragma once

#include <CLI/CLI.hpp>

#include "services/console/command.h"

namespace passband {

void AddGenerateCommand(CLI::App& app, CommandRunner& runner);

}  // namespace passband
