// What `passband bench` says, to people and to programs.
//
// Threads  one at a time; writes to standard output.
#pragma once

#include <string>

#include "services/cli/bench/bench_run.h"

namespace passband::bench {

void PrintBenchText(const std::string& what, const Plan& plan, const Timing& timing,
                    const Outcome& outcome);
// "passband.bench/v1".
void PrintBenchJson(const std::string& what, const Plan& plan, const Timing& timing,
                    const Outcome& outcome);

}  // namespace passband::bench
