// NetDevices: the interfaces that UCX finds on this machine, by its own names: "eth0",
// "mlx5_0:1". UCX itself passes over a name that it does not know, and uses what is left.
//
// Threads  safe.
// Errors   kInvalidArgument: a name that is not here; the message lists those that are.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace passband::transport {

// In order, each once. An interface that is down, or has no address, is not among them.
StatusOr<std::vector<std::string>> NetDevices();

// Of a list as UCX takes it, with commas; "all" and the empty list name all there are.
Status CheckNetDevices(const std::string& names);

}  // namespace passband::transport
