// Whether a server answers, is of this version, and what carries rows to it from here.
//
// Threads  safe. Opens a session for a moment.
#pragma once

#include "services/cli/doctor/finding.h"
#include "services/cli/server_flags.h"

namespace passband::doctor {

// `asked`: the server was named; otherwise one that does not answer is no fault.
std::vector<Finding> CheckServer(const ServerFlags& flags, bool asked);

}  // namespace passband::doctor
