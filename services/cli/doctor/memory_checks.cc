#include "services/cli/doctor/memory_checks.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/units.h"

namespace passband::doctor {
namespace {

constexpr uint64_t kSharedMemory = 64 * kMiB;

std::string Bytes(uint64_t bytes) { return FormatBytes(static_cast<double>(bytes)); }

std::string LimitText() {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  return limit.rlim_cur == RLIM_INFINITY ? "unlimited" : Bytes(limit.rlim_cur);
}

}  // namespace

Finding CheckRam(const ProcFiles& files, uint64_t wanted) {
  uint64_t available = files.Line("/proc/meminfo", "MemAvailable").value_or(0);
  std::string whose = "available";
  if (const auto limit = files.Number("/sys/fs/cgroup/memory.max"); limit.has_value()) {
    const uint64_t used = files.Number("/sys/fs/cgroup/memory.current").value_or(0);
    const uint64_t left = *limit - std::min(*limit, used);
    if (left < available) {
      available = left;
      whose = "left of this control group's limit";
    }
  }
  const std::string what = fmt::format("{} {}", Bytes(available), whose);
  // Staging, RocksDB's buffers, and the process itself.
  const uint64_t whole = wanted + kGiB;
  if (available >= whole) return Pass("memory", what);
  return Fail("memory", fmt::format("{}, --ram {} takes {}", what, Bytes(wanted), Bytes(whole)),
              "Give passband-server a smaller --ram, or the container a higher memory limit");
}

Finding CheckLockedMemory(uint64_t bytes, bool needed) {
  void* const memory =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return Fail("locked memory", fmt::format("{} of memory cannot be had", Bytes(bytes)),
                "Free memory on this machine");
  }
  const bool locked = ::mlock(memory, bytes) == 0;
  const int error = errno;
  ::munmap(memory, bytes);
  const std::string limit = fmt::format("the limit is {}", LimitText());
  if (locked) return Pass("locked memory", fmt::format("{} locked; {}", Bytes(bytes), limit));
  const std::string what =
      fmt::format("{} cannot be locked ({}); {}", Bytes(bytes), std::strerror(error), limit);
  const std::string fix =
      "Set LimitMEMLOCK=infinity for the unit or the container runtime (ulimit -l). In "
      "Kubernetes IPC_LOCK has effect for root only";
  return needed ? Fail("locked memory", what, fix)
                : Warn("locked memory", what + "; RDMA and --lock-memory need it", fix);
}

Finding CheckHugePages(const ProcFiles& files, uint64_t wanted) {
  const uint64_t free = files.Line("/proc/meminfo", "HugePages_Free").value_or(0);
  const uint64_t reserved = files.Line("/proc/meminfo", "HugePages_Rsvd").value_or(0);
  const uint64_t pages = (free - std::min(free, reserved)) * 2 * kMiB;
  if (pages >= wanted) {
    return Pass("huge pages", fmt::format("{} reserved and free", Bytes(pages)));
  }
  const std::string shared = files.Text("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  for (const char* mode : {"[always]", "[advise]", "[within_size]", "[force]"}) {
    if (shared.find(mode) != std::string::npos) {
      return Pass("huge pages", fmt::format("transparent ones for shared memory: {}", mode));
    }
  }
  return Warn("huge pages", "none reserved, and no transparent ones for shared memory",
              fmt::format("sysctl vm.nr_hugepages={}, or echo advise > "
                          "/sys/kernel/mm/transparent_hugepage/shmem_enabled: fetches are about "
                          "30 % faster",
                          (wanted + 2 * kMiB - 1) / (2 * kMiB)));
}

Finding CheckSharedMemory(const std::string& folder) {
  struct statvfs disk {};
  if (::statvfs(folder.c_str(), &disk) != 0) {
    return Fail("shared memory", fmt::format("no {}: {}", folder, std::strerror(errno)),
                "Mount a tmpfs there: workers of this machine exchange rows through it");
  }
  const uint64_t free = uint64_t{disk.f_bavail} * disk.f_frsize;
  const std::string what = fmt::format("{} free in {}", Bytes(free), folder);
  if (free >= kSharedMemory) return Pass("shared memory", what);
  return Warn("shared memory", what,
              fmt::format("Give it {} or more (--shm-size of docker, an emptyDir of medium Memory "
                          "in Kubernetes)",
                          Bytes(kSharedMemory)));
}

}  // namespace passband::doctor
