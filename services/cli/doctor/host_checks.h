// Processors, file descriptors, the clock, and the disk that rows would be spilled to.
//
// Units    bytes, seconds.
// Threads  safe. CheckDisk writes one file, reads it back, and removes it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "services/cli/doctor/finding.h"
#include "services/cli/doctor/proc_files.h"

namespace passband::doctor {

Finding CheckProcessors(const ProcFiles& files);
Finding CheckFileDescriptors();
Finding CheckClock();
// `folder` empty: skipped. Stops in the middle when `time` is over.
Finding CheckDisk(const std::string& folder, uint64_t bytes, std::chrono::milliseconds time);

}  // namespace passband::doctor
