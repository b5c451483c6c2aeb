// Report: what came of a chaos run, as a table and as a line of JSON.
//
// Threads    pure functions.
#pragma once

#include "tests/chaos/run.h"

namespace passband::chaos {

// Prints both; true when nothing happened that must not.
bool Report(Run& run, const RunOptions& options);

}  // namespace passband::chaos
