// The subcommand `demo`: a book with codes hidden in it is read into the
// service; questions are answered from there by FASA and by full attention, side
// by side, with what each of them moved.
//
// Threads  used by main only.
#pragma once

#include <CLI/CLI.hpp>

#include "services/console/command.h"

namespace passband {

void AddDemoCommand(CLI::App& app, CommandRunner& runner);

}  // namespace passband
