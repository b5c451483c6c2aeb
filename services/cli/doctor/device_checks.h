// What carries rows: UCX with its transports, RDMA devices, and GPUs beside them.
//
// Threads  safe.
#pragma once

#include <string>
#include <vector>

#include "services/cli/doctor/finding.h"
#include "services/cli/doctor/proc_files.h"

namespace passband::doctor {

struct RdmaPort {
  std::string name;  // "mlx5_0:1"
  bool active = false;
  std::string rate;   // "100 Gb/sec (4X EDR)"
  std::string layer;  // "InfiniBand", "Ethernet"
};
std::vector<RdmaPort> RdmaPorts(const ProcFiles& files);

// Sets UCX up as the programs do, and lists what the environment overrides.
Finding CheckUcx(const std::string& net_devices, const std::vector<std::string>& environment);
// Whether the interfaces named in `net_devices` are here.
Finding CheckInterfaces(const ProcFiles& files, const std::vector<RdmaPort>& ports,
                        const std::string& net_devices);
Finding CheckRdma(const std::vector<RdmaPort>& ports);
Finding CheckGpuDirect(const ProcFiles& files, bool rdma);

}  // namespace passband::doctor
