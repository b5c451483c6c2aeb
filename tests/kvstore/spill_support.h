// What tests of the spill database share: small options, blocks with content that tells
// which block it is, a ledger of what was put.
//
// Threads  one at a time.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kvstore/spill_database.h"

namespace passband::test {

using Bytes = std::vector<std::byte>;

inline constexpr uint32_t kSpillPlanes = 4;
inline constexpr uint64_t kSpillBlockBytes = 16 << 10;

inline SpillDatabase::Options SmallSpill(const std::string& directory) {
  return {.directory = directory,
          .capacity_bytes = 64 << 20,
          .generation_bytes = 1 << 20,
          .memtable_bytes = 256 << 10,
          .stall_timeout = std::chrono::seconds(20),
          .resume_interval = std::chrono::milliseconds(50)};
}

inline Bytes BlockOf(uint64_t seed, uint64_t bytes = kSpillBlockBytes) {
  std::mt19937_64 random(seed);
  Bytes block(bytes);
  for (std::byte& b : block) b = static_cast<std::byte>(random());
  return block;
}

// Addresses by the seed of the block that was put there.
using PutBlocks = std::map<uint64_t, BlockAddress>;

// Puts blocks of seeds [first, first + count); stops at the first that is refused.
inline Status PutBlocksOf(Tier& tier, uint64_t first, uint64_t count, PutBlocks& put) {
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const auto address = tier.Put(BlockOf(seed), kSpillPlanes);
    if (!address.ok()) return address.status();
    if (!put.emplace(seed, *address).second) ADD_FAILURE() << "seed " << seed << " again";
  }
  return OkStatus();
}

struct ReadCounts {
  uint64_t hits = 0;
  uint64_t misses = 0;
  uint64_t damaged = 0;
  uint64_t unavailable = 0;
};

// Reads every block; fails the test when one has other bytes than those put.
inline ReadCounts ReadBlocks(Tier& tier, const PutBlocks& put) {
  ReadCounts counts;
  for (const auto& [seed, address] : put) {
    Bytes got(kSpillBlockBytes);
    const auto hit = tier.Get(address, kSpillPlanes, (1 << kSpillPlanes) - 1, got);
    if (hit.ok() && *hit) {
      ++counts.hits;
      EXPECT_EQ(got, BlockOf(seed))
          << "other bytes at " << address.generation << "." << address.number;
      continue;
    }
    EXPECT_EQ(got, Bytes(kSpillBlockBytes)) << "bytes without a hit";
    if (hit.ok()) {
      ++counts.misses;
    } else if (hit.status().code() == StatusCode::kDataLoss) {
      ++counts.damaged;
    } else {
      EXPECT_EQ(hit.status().code(), StatusCode::kUnavailable) << hit.status();
      ++counts.unavailable;
    }
  }
  return counts;
}

// As a store does after a restart.
inline void ClaimBlocks(Tier& tier, const PutBlocks& put) {
  for (const auto& [seed, address] : put) tier.Claim(address);
  EXPECT_TRUE(tier.DropUnclaimed().ok());
}

inline std::unique_ptr<SpillDatabase> OpenSpill(const SpillDatabase::Options& options) {
  auto opened = SpillDatabase::Open(options);
  EXPECT_TRUE(opened.ok()) << opened.status();
  return opened.ok() ? *std::move(opened) : nullptr;
}

inline std::map<std::string, std::string> ReadRecords(const Catalog& catalog, RecordKind kind) {
  std::map<std::string, std::string> records;
  const auto damaged = catalog.ForEach(kind, [&](std::string_view key, std::string_view value) {
    EXPECT_TRUE(records.emplace(key, value).second) << "twice: " << key;
  });
  EXPECT_TRUE(damaged.ok()) << damaged.status();
  EXPECT_EQ(damaged.value_or(1), 0u);
  return records;
}

}  // namespace passband::test
