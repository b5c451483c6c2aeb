#include "services/cli/doctor/device_checks.h"

#include <fmt/format.h>

#include <set>
#include <sstream>

#include "sdk/local_transports.h"

namespace passband::doctor {

std::vector<RdmaPort> RdmaPorts(const ProcFiles& files) {
  std::vector<RdmaPort> ports;
  const std::string all = "/sys/class/infiniband";
  for (const std::string& device : files.Folder(all)) {
    for (const std::string& port : files.Folder(all + "/" + device + "/ports")) {
      const std::string folder = all + "/" + device + "/ports/" + port + "/";
      ports.push_back({.name = device + ":" + port,
                       .active = files.Text(folder + "state").find("ACTIVE") != std::string::npos,
                       .rate = files.Text(folder + "rate"),
                       .layer = files.Text(folder + "link_layer")});
    }
  }
  return ports;
}

Finding CheckUcx(const std::string& net_devices, const std::vector<std::string>& environment) {
  std::string overrides;
  for (const std::string& entry : environment) {
    if (entry.rfind("UCX_", 0) == 0) overrides += (overrides.empty() ? "" : " ") + entry;
  }
  const auto transports = LocalTransports(net_devices);
  if (!transports.ok()) {
    return Fail("UCX", Message(transports.status()),
                overrides.empty() ? "Name interfaces of this machine in --net-devices"
                                  : "Unset what should not be set: " + overrides);
  }
  std::string what = "transports " + *transports;
  if (overrides.empty()) return Pass("UCX", what);
  return Warn("UCX", what + "; the environment overrides " + overrides,
              "Unset them unless they are meant: the programs set UCX up by themselves");
}

Finding CheckInterfaces(const ProcFiles& files, const std::vector<RdmaPort>& ports,
                        const std::string& net_devices) {
  std::set<std::string> known;
  std::string all;
  const auto add = [&](const std::string& name) {
    known.insert(name);
    all += (all.empty() ? "" : ", ") + name;
  };
  for (const std::string& name : files.Folder("/sys/class/net")) add(name);
  for (const RdmaPort& port : ports) add(port.name);
  if (net_devices.empty()) return Pass("interfaces", all);
  std::istringstream names(net_devices);
  std::string missing;
  for (std::string name; std::getline(names, name, ',');) {
    if (!known.contains(name)) missing += (missing.empty() ? "" : ", ") + name;
  }
  if (missing.empty()) return Pass("interfaces", net_devices);
  return Fail("interfaces", fmt::format("no {} here; there are {}", missing, all),
              "Name in --net-devices what is here: UCX ignores other names without a word");
}

Finding CheckRdma(const std::vector<RdmaPort>& ports) {
  if (ports.empty()) return Skip("RDMA", "no device: rows between hosts travel over TCP");
  std::string what;
  bool active = false;
  for (const RdmaPort& port : ports) {
    what += fmt::format("{}{} {} {} {}", what.empty() ? "" : ", ", port.name, port.layer, port.rate,
                        port.active ? "active" : "down");
    active |= port.active;
  }
  if (active) return Pass("RDMA", what);
  return Warn("RDMA", what,
              "Bring a port up (ibstat, cable, switch): UCX falls back to TCP "
              "without a word");
}

Finding CheckGpuDirect(const ProcFiles& files, bool rdma) {
  if (!files.Exists("/proc/driver/nvidia/version")) return Skip("GPUDirect", "no NVIDIA driver");
  if (!rdma) return Skip("GPUDirect", "a GPU, but no RDMA device");
  for (const char* module : {"nvidia_peermem", "nv_peer_mem"}) {
    if (files.Exists(std::string("/sys/module/") + module)) {
      return Pass("GPUDirect", fmt::format("{} is loaded", module));
    }
  }
  return Warn("GPUDirect", "neither nvidia_peermem nor nv_peer_mem is loaded",
              "modprobe nvidia_peermem");
}

}  // namespace passband::doctor
