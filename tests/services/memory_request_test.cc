// Goal: more RAM asked for than there is ends the start at once, with what was asked for, what
// there is, and what to do; as does a size that is none.
#include "base/units.h"
#include "gmock/gmock.h"
#include "kvstore/memory_limits.h"
#include "tests/services/server_command.h"
#include "tests/support/temp_folder.h"

namespace passband::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(MemoryRequestTest, MoreThanTheMachineHasIsRefusedAtStart) {
  for (const uint64_t bytes : {2 * (AvailableMemory("/") / kGiB) * kGiB, uint64_t{1} << 50}) {
    const test::Outcome outcome = RunServer("--ram " + std::to_string(bytes));
    EXPECT_EQ(outcome.code, 1) << outcome.output;
    EXPECT_THAT(outcome.output, AllOf(HasSubstr("passband-server cannot start: " +
                                                FormatBytes(bytes) + " of RAM asked for, "),
                                      HasSubstr(" available: ask for less, or free some")));
  }
}

// The spill directory is not left locked, or half made.
TEST(MemoryRequestTest, TheSpillDirectoryIsFreeAfterwards) {
  const test::TempFolder folder;
  const std::string spill = " --spill-limit 64MiB --spill-dir " + folder.path();
  EXPECT_EQ(RunServer("--ram 1024TiB" + spill).code, 1);
  const test::Outcome again = RunServer("--ram 1024TiB" + spill);
  EXPECT_EQ(again.code, 1);
  EXPECT_THAT(again.output, HasSubstr("1024.00 TiB of RAM asked for"));
}

TEST(MemoryRequestTest, SizesThatAreNoneAreFaultsOfUsage) {
  for (const char* ram : {"0", "1KiB", "16EiB", "-1GiB", "99999999999999999999", "much"}) {
    const test::Outcome outcome = RunServer(std::string("--ram=") + ram);
    EXPECT_EQ(outcome.code, 2) << ram << "\n" << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr("--ram")) << ram;
  }
}

}  // namespace
}  // namespace passband::testing
