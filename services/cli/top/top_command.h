// `passband top`: what a server does, live; what it saves comes first.
//
// Threads  one at a time.
#pragma once

#include "services/console/command.h"

namespace CLI {
class App;
}

namespace passband {

// Adds the subcommand to `app`; it runs after parsing.
void AddTopCommand(CLI::App& app, CommandRunner& runner);

}  // namespace passband
