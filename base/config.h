// LoadConfig: settings from a file, the environment and flags, in that order
// of rising strength.
//
// A program declares each setting once, as a CLI11 option with a default and,
// by ->envname("PASSBAND_…"), its environment name. The optional file is flat
// YAML whose keys are the long flag names without dashes in front:
//
//   ram: 8GiB
//   data-port: 50062
//
// A key may be a flag of the program or of its subcommands; it holds for all that
// have the flag.
//
// Errors  kInvalidArgument lists every unknown or ill-typed key of the file at
//         once, each with its line and the nearest known name.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "base/status.h"

namespace passband {

// Adds --config to `app`. Call before LoadConfig. `environment` names the file, too.
void AddConfigFlag(CLI::App& app, const std::string& environment = "PASSBAND_CONFIG");

// Parses the command line. kOk: settings are filled. kCancelled: help or
// version was printed, the program should exit 0. Anything else: print the
// message and exit 2.
Status LoadConfig(CLI::App& app, int argc, const char* const* argv);

}  // namespace passband
