#include "services/server/process_stats.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace passband::server {
namespace {

// Fields of /proc/self/stat after the command, which may hold anything in parentheses; the
// first of them is the third of proc(5).
constexpr int kUserTicks = 14;
constexpr int kSystemTicks = 15;
constexpr int kThreads = 20;
constexpr int kStartTicks = 22;
constexpr int kVirtualBytes = 23;
constexpr int kResidentPages = 24;

uint64_t BootTime() {
  std::ifstream file("/proc/stat");
  std::string word;
  while (file >> word) {
    uint64_t seconds = 0;
    if (word == "btime" && file >> seconds) return seconds;
  }
  return 0;
}

uint64_t CountOpenFds() {
  std::error_code error;
  const std::filesystem::directory_iterator fds("/proc/self/fd", error);
  if (error) return 0;
  uint64_t count = 0;
  for (const auto& fd : fds) count += fd.path().empty() ? 0 : 1;
  return count;
}

uint64_t SoftLimit(decltype(RLIMIT_NOFILE) resource) {
  rlimit limit{};
  return getrlimit(resource, &limit) == 0 ? limit.rlim_cur : 0;
}

void ReadStat(ProcessStats& out) {
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  const size_t command_end = line.rfind(')');
  if (command_end == std::string::npos) return;
  std::istringstream fields(line.substr(command_end + 1));
  const auto tick = static_cast<double>(sysconf(_SC_CLK_TCK));
  std::string field;
  for (int number = 3; fields >> field; ++number) {
    if (number == 3) continue;  // A letter.
    const uint64_t value = std::strtoull(field.c_str(), nullptr, 10);
    switch (number) {
      case kUserTicks:
      case kSystemTicks:
        out.cpu_seconds += static_cast<double>(value) / tick;
        break;
      case kThreads:
        out.threads = value;
        break;
      case kStartTicks:
        out.start_time_seconds =
            static_cast<double>(BootTime()) + static_cast<double>(value) / tick;
        break;
      case kVirtualBytes:
        out.virtual_bytes = value;
        break;
      case kResidentPages:
        out.resident_bytes = value * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
        return;
      default:
        break;
    }
  }
}

}  // namespace

ProcessStats ProcessStats::Read() {
  ProcessStats out;
  ReadStat(out);
  out.open_fds = CountOpenFds();
  out.max_fds = SoftLimit(RLIMIT_NOFILE);
  out.locked_limit_bytes = SoftLimit(RLIMIT_MEMLOCK);
  return out;
}

}  // namespace passband::server
