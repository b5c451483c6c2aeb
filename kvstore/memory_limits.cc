#include "kvstore/memory_limits.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

namespace passband {
namespace {

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

// The file's only number; "max" and unreadable files are no number.
std::optional<uint64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (!(file >> value)) return std::nullopt;
  return value;
}

// The number after `name` in a file of "name value" lines.
std::optional<uint64_t> ReadField(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string word;
    uint64_t value = 0;
    if (words >> word >> value && word == name) return value;
  }
  return std::nullopt;
}

uint64_t MachineAvailable(const std::string& root) {
  const auto kib = ReadField(root + "/proc/meminfo", "MemAvailable:");
  return kib.has_value() ? *kib * 1024 : kUnlimited;
}

uint64_t CgroupAvailable(const std::string& dir, const char* limit_name, const char* usage_name,
                         const char* cache_name) {
  const auto limit = ReadNumber(dir + limit_name);
  const auto usage = ReadNumber(dir + usage_name);
  if (!limit.has_value() || !usage.has_value()) return kUnlimited;
  // Cold page cache counts as used, and yet gives way.
  const uint64_t cache = ReadField(dir + "memory.stat", cache_name).value_or(0);
  const uint64_t used = *usage - std::min(*usage, cache);
  return *limit - std::min(*limit, used);
}

// Walks from `path` up to the mount's root: every level may set a limit.
uint64_t HierarchyAvailable(const std::string& mount, std::string path, bool v2) {
  uint64_t available = kUnlimited;
  while (true) {
    const std::string dir = mount + path + (path.ends_with('/') ? "" : "/");
    available = std::min(available,
                         v2 ? CgroupAvailable(dir, "memory.max", "memory.current", "inactive_file")
                            : CgroupAvailable(dir, "memory.limit_in_bytes", "memory.usage_in_bytes",
                                              "total_inactive_file"));
    if (path.empty() || path == "/") return available;
    path.resize(path.rfind('/'));
  }
}

}  // namespace

uint64_t AvailableMemory(const std::string& root) {
  uint64_t available = MachineAvailable(root);
  std::ifstream groups(root + "/proc/self/cgroup");
  std::string line;  // "<id>:<controllers>:<path>", v2 with no controllers
  while (std::getline(groups, line)) {
    const size_t first = line.find(':');
    const size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos || second + 1 >= line.size() || line[second + 1] != '/') continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      available = std::min(available, HierarchyAvailable(root + "/sys/fs/cgroup", path, true));
    } else if (controllers == "memory") {
      available =
          std::min(available, HierarchyAvailable(root + "/sys/fs/cgroup/memory", path, false));
    }
  }
  return available;
}

}  // namespace passband
