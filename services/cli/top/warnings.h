// What of a server somebody should look at, each in a sentence that says what to do.
//
// Threads  pure functions.
#pragma once

#include <string>
#include <vector>

#include "services/cli/top/metric_page.h"

namespace passband::top {

struct ServerTick;

// `tick` is complete but for its warnings. The worst first.
std::vector<std::string> WarningsOf(const MetricPage& before, const MetricPage& now,
                                    const ServerTick& tick);

}  // namespace passband::top
