// Goal: the tightest of the machine's and all cgroups' limits is found, v1 and v2.
#include "kvstore/memory_limits.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temp_folder.h"

namespace passband {
namespace {

class MemoryLimits : public testing::Test {
 protected:
  void SetUp() override { Write("/proc/meminfo", "MemTotal: 2000 kB\nMemAvailable:    1000 kB\n"); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }

  const test::TempFolder folder_;
  const std::string root_ = folder_.path();
};

TEST_F(MemoryLimits, MachineAlone) {
  Write("/proc/self/cgroup", "0::/\n");
  EXPECT_EQ(AvailableMemory(root_), 1000u * 1024);
}

TEST_F(MemoryLimits, UnlimitedGroup) {
  Write("/proc/self/cgroup", "0::/a\n");
  Write("/sys/fs/cgroup/a/memory.max", "max\n");
  Write("/sys/fs/cgroup/a/memory.current", "500\n");
  EXPECT_EQ(AvailableMemory(root_), 1000u * 1024);
}

TEST_F(MemoryLimits, ParentGroupIsTighter) {
  Write("/proc/self/cgroup", "0::/a/b\n");
  Write("/sys/fs/cgroup/a/memory.max", "900000\n");
  Write("/sys/fs/cgroup/a/memory.current", "500000\n");
  Write("/sys/fs/cgroup/a/memory.stat", "anon 300000\ninactive_file 200000\n");
  Write("/sys/fs/cgroup/a/b/memory.max", "800000\n");
  Write("/sys/fs/cgroup/a/b/memory.current", "1000\n");
  EXPECT_EQ(AvailableMemory(root_), 600'000u);
}

TEST_F(MemoryLimits, VersionOneFullGroup) {
  Write("/proc/self/cgroup", "5:cpu:/x\n4:memory:/x/y\n0::/\n");
  Write("/sys/fs/cgroup/memory/x/y/memory.limit_in_bytes", "700000\n");
  Write("/sys/fs/cgroup/memory/x/y/memory.usage_in_bytes", "700001\n");
  EXPECT_EQ(AvailableMemory(root_), 0u);
}

TEST_F(MemoryLimits, ThisMachineHasSome) { EXPECT_GT(AvailableMemory(), uint64_t{1} << 20); }

}  // namespace
}  // namespace passband
