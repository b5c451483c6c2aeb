// What tests of a spill on a device that fails share: the spill, and callers that try again.
//
// Threads  one at a time.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "tests/kvstore/failing_disk.h"
#include "tests/kvstore/spill_support.h"
#include "tests/support/temp_folder.h"

namespace passband::test {

inline constexpr std::chrono::seconds kPatience{60};

// What a caller does: puts again later. False when the device does not come back.
inline bool PutUntilTaken(SpillDatabase& spill, uint64_t seed, PutBlocks& put) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < end) {
    if (PutBlocksOf(spill.tier(), seed, 1, put).ok() && spill.tier().Flush().ok()) {
      return true;
    }
    put.erase(seed);
  }
  return false;
}

// All that was put and flushed is there.
inline std::unique_ptr<SpillDatabase> OpenAgain(const SpillDatabase::Options& options,
                                                const PutBlocks& put) {
  auto spill = OpenSpill(options);
  if (spill == nullptr) return spill;
  ClaimBlocks(spill->tier(), put);
  EXPECT_EQ(ReadBlocks(spill->tier(), put).hits, put.size()) << "all of it was flushed";
  return spill;
}

// A spill directory on a disk that fails when it is told to.
struct FailingSpill {
  explicit FailingSpill(uint64_t seed) : disk(seed) { options.env = disk.env(); }
  FailingDisk disk;
  const TempFolder folder;
  SpillDatabase::Options options = SmallSpill(folder.path());
};

struct FaultCase {
  const char* name;
  FailingDisk::Faults faults;
};

}  // namespace passband::test
