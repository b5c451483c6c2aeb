// AvailableMemory: how much RAM this process can still have.
//
// Units    bytes.
// Threads  safe.
// Errors   none: a limit that cannot be read does not limit.
#pragma once

#include <cstdint>
#include <string>

namespace passband {

// The least of what the machine has free (page cache that can be dropped
// included) and what every memory cgroup above this process, v1 or v2, still
// grants. `root` stands before /proc and /sys; tests give one of their own.
uint64_t AvailableMemory(const std::string& root = "");

}  // namespace passband
