// `passband bench`: how fast a running server fetches, appends and attaches from here.
//
// Threads  one at a time.
#pragma once

#include "services/console/command.h"

namespace CLI {
class App;
}

namespace passband {

// Adds the subcommand to `app`; it runs after parsing.
void AddBenchCommand(CLI::App& app, CommandRunner& runner);

}  // namespace passband
