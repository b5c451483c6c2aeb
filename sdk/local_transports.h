// LocalTransports: what UCX would use on this machine, set up as the programs set it up.
//
// Threads  safe.
// Errors   those of transport/ucx_context.h: a device that is not here, a setting of the
//          environment that is refused.
#pragma once

#include <string>

#include "base/status.h"

namespace passband {

// UCX's names, with commas. `net_devices` empty: all.
StatusOr<std::string> LocalTransports(const std::string& net_devices);

}  // namespace passband
