// Goal: a spill database keeps what was flushed over a restart, bounds what it takes, and
// gives space back by generations.
#include "kvstore/spill_database.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "tests/kvstore/spill_support.h"
#include "tests/support/temp_folder.h"

namespace passband {
namespace {

using test::BlockOf;
using test::Bytes;
using test::kSpillBlockBytes;
using test::kSpillPlanes;
using test::OpenSpill;
using test::PutBlocks;
using test::SmallSpill;

TEST(SpillDatabaseTest, FlushedBlocksAndRecordsAreBackAfterARestart) {
  const test::TempFolder folder;
  PutBlocks put;
  {
    const auto spill = OpenSpill(SmallSpill(folder.path()));
    ASSERT_TRUE(test::PutBlocksOf(spill->tier(), 0, 200, put).ok());
    ASSERT_TRUE(spill->tier().Flush().ok());
    EXPECT_EQ(spill->Health().pending_bytes, 0u);
    CatalogBatch batch;
    batch.Put(RecordKind::kSequence, "b", "two");
    batch.Put(RecordKind::kSequence, "a", "one");
    batch.Put(RecordKind::kSequence, "gone", "three");
    batch.Put(RecordKind::kModel, "a", "model");
    ASSERT_TRUE(spill->catalog().Write(batch).ok());
    CatalogBatch erase;
    erase.Erase(RecordKind::kSequence, "gone");
    erase.Put(RecordKind::kSequence, "b", "second");
    ASSERT_TRUE(spill->catalog().Write(erase).ok());
  }
  const auto spill = OpenSpill(SmallSpill(folder.path()));
  EXPECT_FALSE(spill->losses().any());
  test::ClaimBlocks(spill->tier(), put);
  EXPECT_EQ(test::ReadBlocks(spill->tier(), put).hits, 200u);
  EXPECT_EQ(spill->tier().Stats().blocks, 200u);
  using Records = std::map<std::string, std::string>;
  EXPECT_EQ(test::ReadRecords(spill->catalog(), RecordKind::kSequence),
            (Records{{"a", "one"}, {"b", "second"}}));
  EXPECT_EQ(test::ReadRecords(spill->catalog(), RecordKind::kModel), (Records{{"a", "model"}}));
  EXPECT_EQ(test::ReadRecords(spill->catalog(), RecordKind::kColumn), Records());
}

TEST(SpillDatabaseTest, AddressesNeverComeAgain) {
  const test::TempFolder folder;
  std::set<BlockAddress> seen;
  for (int run = 0; run < 4; ++run) {
    const auto spill = OpenSpill(SmallSpill(folder.path()));
    ASSERT_TRUE(spill->tier().DropUnclaimed().ok());  // forgets every generation
    EXPECT_EQ(spill->tier().Stats().generations, 0u);
    PutBlocks put;
    ASSERT_TRUE(test::PutBlocksOf(spill->tier(), 0, 70, put).ok());
    ASSERT_TRUE(spill->tier().Flush().ok());
    for (const auto& [seed, address] : put) EXPECT_TRUE(seen.insert(address).second);
  }
}

TEST(SpillDatabaseTest, BlocksThatNobodyClaimsAreForgotten) {
  const test::TempFolder folder;
  PutBlocks put;
  {
    const auto spill = OpenSpill(SmallSpill(folder.path()));
    ASSERT_TRUE(test::PutBlocksOf(spill->tier(), 0, 200, put).ok());
    ASSERT_TRUE(spill->tier().Flush().ok());
  }
  const auto spill = OpenSpill(SmallSpill(folder.path()));
  const uint64_t before = spill->tier().Stats().used_bytes;
  const BlockAddress kept = put.at(100);
  spill->tier().Claim(kept);
  spill->tier().Claim({kept.generation, uint64_t{1} << 60});  // was never put
  spill->tier().Claim({12345, 1});
  ASSERT_TRUE(spill->tier().DropUnclaimed().ok());
  EXPECT_EQ(spill->tier().Stats().generations, 1u);
  EXPECT_EQ(spill->tier().Stats().blocks, 1u);
  EXPECT_LT(spill->tier().Stats().used_bytes, before / 2);
  Bytes got(kSpillBlockBytes);
  EXPECT_TRUE(*spill->tier().Get(kept, kSpillPlanes, 0xf, got));
  EXPECT_EQ(got, BlockOf(100));
  EXPECT_FALSE(*spill->tier().Get(put.at(0), kSpillPlanes, 0xf, got));
}

TEST(SpillDatabaseTest, AGenerationThatNobodyWantsGoesAtOnce) {
  const test::TempFolder folder;
  const auto spill = OpenSpill(SmallSpill(folder.path()));
  PutBlocks put;
  ASSERT_TRUE(test::PutBlocksOf(spill->tier(), 0, 200, put).ok());
  ASSERT_TRUE(spill->tier().Flush().ok());
  const TierStats before = spill->tier().Stats();
  const uint64_t first = put.at(0).generation;
  for (const auto& [seed, address] : put) {
    if (address.generation == first) spill->tier().Drop(address);
  }
  EXPECT_EQ(spill->tier().Stats().generations, before.generations - 1);
  // The files go behind the caller's back; whoever needs the space has it sooner.
  EXPECT_EQ(spill->tier().DropOldest().value_or(0), put.at(100).generation);
  EXPECT_LT(spill->tier().Stats().used_bytes, before.used_bytes);
}

TEST(SpillDatabaseTest, TheCapacityBoundsTheFiles) {
  const test::TempFolder folder;
  SpillDatabase::Options options = SmallSpill(folder.path());
  options.capacity_bytes = 6 << 20;
  const auto spill = OpenSpill(options);
  PutBlocks put;
  const Status full = test::PutBlocksOf(spill->tier(), 0, 10'000, put);
  ASSERT_EQ(full.code(), StatusCode::kResourceExhausted) << full;
  EXPECT_GT(put.size() * kSpillBlockBytes, options.capacity_bytes / 2);
  uint64_t evicted = 0;
  for (uint64_t next = 10'000; next < 12'000; ++next) {
    while (test::PutBlocksOf(spill->tier(), next, 1, put).code() ==
           StatusCode::kResourceExhausted) {
      const auto oldest = spill->tier().DropOldest();
      ASSERT_TRUE(oldest.ok()) << oldest.status();
      evicted +=
          std::erase_if(put, [&](const auto& block) { return block.second.generation <= *oldest; });
    }
    ASSERT_TRUE(put.contains(next));
    if (next % 100 != 0) continue;
    ASSERT_TRUE(spill->tier().Flush().ok());
    uint64_t on_device = 0;
    for (const auto& file : std::filesystem::directory_iterator(folder.path())) {
      if (file.path().extension() == ".sst") on_device += file.file_size();
    }
    ASSERT_LE(on_device, options.capacity_bytes);
  }
  EXPECT_GT(evicted, 1000u);
  const test::ReadCounts counts = test::ReadBlocks(spill->tier(), put);
  EXPECT_EQ(counts.hits, put.size());
}

TEST(SpillDatabaseTest, MemoryForWhatIsNotWrittenYetIsBounded) {
  const test::TempFolder folder;
  SpillDatabase::Options options = SmallSpill(folder.path());
  options.write_bytes_per_second = 4 << 20;
  const auto spill = OpenSpill(options);
  PutBlocks put;
  for (uint64_t i = 0; i < 10; ++i) {
    ASSERT_TRUE(test::PutBlocksOf(spill->tier(), i * 30, 30, put).ok());
    EXPECT_LE(spill->Health().pending_bytes, options.memtable_bytes * options.memtables);
  }
  EXPECT_GT(spill->Health().stall_seconds, 0);
  EXPECT_EQ(test::ReadBlocks(spill->tier(), put).hits, 300u);
}

TEST(SpillDatabaseTest, OptionsThatContradictEachOtherAreRefused) {
  const test::TempFolder folder;
  SpillDatabase::Options options = SmallSpill(folder.path());
  options.capacity_bytes = 0;
  EXPECT_EQ(SpillDatabase::Open(options).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace passband
