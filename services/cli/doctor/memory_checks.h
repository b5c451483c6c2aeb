// Whether this machine has the memory for a server of a given size, can lock it for RDMA, and
// has huge pages and shared memory.
//
// Units    bytes.
// Threads  safe. CheckLockedMemory takes and gives back the memory it tries.
#pragma once

#include <cstdint>
#include <vector>

#include "services/cli/doctor/finding.h"
#include "services/cli/doctor/proc_files.h"

namespace passband::doctor {

// Of RAM and the control group's limit.
Finding CheckRam(const ProcFiles& files, uint64_t wanted);
// By locking so much: a limit is no proof. `needed`: an RDMA device is there.
Finding CheckLockedMemory(uint64_t bytes, bool needed);
Finding CheckHugePages(const ProcFiles& files, uint64_t wanted);
Finding CheckSharedMemory(const std::string& folder);

}  // namespace passband::doctor
