// Goal: a device that fails or is full costs time, not bytes: each call says what is wrong,
// nothing that was taken is lost, no other bytes come back, and writing goes on afterwards.
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>

#include "kvstore/spill_database.h"
#include "tests/kvstore/failing_spill.h"
#include "tests/support/mounts.h"

namespace passband {
namespace {

using test::FailingDisk;
using test::FailingSpill;
using test::FaultCase;
using test::kPatience;
using test::OpenAgain;
using test::OpenSpill;
using test::PutBlocks;
using test::PutUntilTaken;
using test::SmallSpill;

class SpillWriteFaultTest : public testing::TestWithParam<FaultCase> {};

TEST_P(SpillWriteFaultTest, NothingIsLostAndWritingGoesOn) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  FailingSpill on(seed);
  PutBlocks put;
  {
    on.disk.Set({.logs = GetParam().faults.logs});
    const auto spill = OpenSpill(on.options);
    ASSERT_NE(spill, nullptr);
    uint64_t refused = 0;
    uint64_t next = 0;
    for (int round = 0; round < 4; ++round) {
      on.disk.Set(GetParam().faults);
      const uint64_t begin = next;
      for (uint64_t tries = 0; tries < 100; ++tries, ++next) {
        Status status = test::PutBlocksOf(spill->tier(), next, 1, put);
        if (status.ok() && tries % 20 == 19) {
          status = spill->tier().Flush();
        }
        if (status.ok()) continue;
        ++refused;
        EXPECT_TRUE(status.code() == StatusCode::kUnavailable ||
                    status.code() == StatusCode::kResourceExhausted)
            << status;
        if (const Status device = spill->Health().device; !device.ok()) {
          EXPECT_NE(device.ToString().find("Writing goes on by itself"), std::string::npos)
              << device;
        }
        ASSERT_EQ(test::ReadBlocks(spill->tier(), put).hits, put.size()) << "while it fails";
      }
      on.disk.Set({.logs = GetParam().faults.logs});
      ASSERT_GT(next, begin);
      ASSERT_TRUE(PutUntilTaken(*spill, next++, put)) << spill->Health().device;
      EXPECT_TRUE(spill->Health().device.ok());
      ASSERT_EQ(test::ReadBlocks(spill->tier(), put).hits, put.size());
    }
    EXPECT_GT(refused, 0u);
    EXPECT_GT(spill->Health().device_errors, 0u) << "counted";
    EXPECT_EQ(spill->Health().damaged_planes, 0u);
  }
  const auto spill = OpenAgain(on.options, put);
  ASSERT_NE(spill, nullptr);
  PutBlocks more;
  EXPECT_TRUE(PutUntilTaken(*spill, 10'000, more));
}

INSTANTIATE_TEST_SUITE_P(
    Faults, SpillWriteFaultTest,
    testing::Values(FaultCase{"Full", {.write_full = 1, .logs = false}},
                    FaultCase{"FullAtTimes", {.write_full = .2, .logs = false}},
                    FaultCase{"Broken", {.write_eio = 1, .logs = false}},
                    FaultCase{"BrokenAtTimes", {.write_eio = .2, .logs = false}},
                    FaultCase{"SyncBroken", {.sync_eio = .5, .logs = false}}),
    [](const auto& fault) { return std::string(fault.param.name); });

std::string RecordKey(uint64_t number) { return "record " + std::to_string(number); }

// Writes records until one is refused; those that are taken are counted in `next`.
Status WriteRecords(SpillDatabase& spill, uint64_t& next) {
  const std::string value(64 << 10, 'v');
  for (const uint64_t end = next + 2000; next < end; ++next) {
    CatalogBatch batch;
    batch.Put(RecordKind::kSequence, RecordKey(next), value);
    const Status written = spill.catalog().Write(batch);
    if (!written.ok()) return written;
  }
  return Error(StatusCode::kInternal, "the device never was full");
}

// A caller's: tries again until the record is taken.
Status WriteUntilTaken(SpillDatabase& spill, uint64_t& next) {
  CatalogBatch batch;
  batch.Put(RecordKind::kSequence, RecordKey(next), "value");
  const auto end = std::chrono::steady_clock::now() + kPatience;
  Status written;
  do {
    written = spill.catalog().Write(batch);
  } while (!written.ok() && std::chrono::steady_clock::now() < end);
  next += written.ok() ? 1 : 0;
  return written;
}

void ExpectRecords(SpillDatabase& spill, uint64_t count) {
  const auto records = test::ReadRecords(spill.catalog(), RecordKind::kSequence);
  EXPECT_EQ(records.size(), count);
  for (uint64_t i = 0; i < count; ++i) EXPECT_TRUE(records.contains(RecordKey(i))) << i;
}

TEST(SpillFullLogTest, AFullDeviceRefusesRecordsAndTakesThemAgainWithoutAStart) {
  FailingSpill on(1);
  uint64_t next = 0;
  {
    const auto spill = OpenSpill(on.options);
    for (int round = 0; round < 3; ++round) {
      on.disk.Set({.write_full = 1});
      const Status full = WriteRecords(*spill, next);
      EXPECT_EQ(full.code(), StatusCode::kResourceExhausted) << full;
      EXPECT_NE(full.ToString().find("goes on by itself"), std::string::npos) << full;
      ExpectRecords(*spill, next);
      on.disk.Heal();
      const Status taken = WriteUntilTaken(*spill, next);
      ASSERT_TRUE(taken.ok()) << taken << ", the device: " << spill->Health().device;
      ExpectRecords(*spill, next);
    }
  }
  const auto spill = OpenSpill(on.options);
  ASSERT_NE(spill, nullptr);
  ExpectRecords(*spill, next);
}

TEST(SpillReadFaultTest, FlippedBitsAndFailedReadsAreErrorsForAsLongAsTheyLast) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  FailingSpill on(seed);
  const auto spill = OpenSpill(on.options);
  PutBlocks put;
  ASSERT_TRUE(test::PutBlocksOf(spill->tier(), 0, 200, put).ok());
  ASSERT_TRUE(spill->tier().Flush().ok());

  on.disk.Set({.read_eio = .3});
  test::ReadCounts counts = test::ReadBlocks(spill->tier(), put);
  EXPECT_GT(counts.unavailable, 0u);
  EXPECT_EQ(counts.hits + counts.unavailable, 200u);

  on.disk.Set({.read_flip = .5});
  counts = test::ReadBlocks(spill->tier(), put);
  EXPECT_GT(counts.damaged, 0u);
  EXPECT_EQ(counts.hits + counts.damaged, 200u) << "other bits are never a hit or a miss";
  EXPECT_GE(spill->Health().damaged_planes, counts.damaged);

  on.disk.Heal();
  EXPECT_EQ(test::ReadBlocks(spill->tier(), put).hits, 200u);
}

TEST(SpillReadFaultTest, ADatabaseIsOpenedAgainOnceItsDeviceAnswers) {
  FailingSpill on(1);
  PutBlocks put;
  {
    const auto spill = OpenSpill(on.options);
    ASSERT_TRUE(test::PutBlocksOf(spill->tier(), 0, 100, put).ok());
    ASSERT_TRUE(spill->tier().Flush().ok());
  }
  on.disk.Set({.read_eio = 1});
  EXPECT_FALSE(SpillDatabase::Open(on.options).ok())
      << "files that cannot be read are not given up";
  on.disk.Heal();
  const auto spill = OpenAgain(on.options, put);
  ASSERT_NE(spill, nullptr);
  EXPECT_FALSE(spill->losses().any());
}

TEST(SpillDeviceTest, AFullDeviceRefusesAndTakesAgainWhenThereIsSpace) {
  const test::TempFolder folder;
  const auto device = test::SmallDisk::Mount(folder.path(), 24 << 20);
  if (!device.ok()) GTEST_SKIP() << device.status();
  const std::string ballast = folder.path() + "/ballast";
  std::ofstream(ballast) << std::string(12 << 20, 'x');
  SpillDatabase::Options options = SmallSpill(folder.path() + "/spill");
  options.capacity_bytes = 64 << 20;  // more than there is
  PutBlocks put;
  {
    const auto spill = OpenSpill(options);
    ASSERT_NE(spill, nullptr);
    Status full;
    uint64_t next = 0;
    while (full.ok() && next < 4000) {
      full = test::PutBlocksOf(spill->tier(), next++, 1, put);
      if (full.ok() && next % 16 == 0) full = spill->tier().Flush();
    }
    ASSERT_EQ(full.code(), StatusCode::kResourceExhausted) << full;
    EXPECT_NE(full.ToString().find("device is full"), std::string::npos) << full;
    EXPECT_EQ(test::ReadBlocks(spill->tier(), put).hits, put.size());
    std::filesystem::remove(ballast);
    ASSERT_TRUE(PutUntilTaken(*spill, next, put)) << spill->Health().device;
    EXPECT_EQ(test::ReadBlocks(spill->tier(), put).hits, put.size());
  }
  const auto spill = OpenAgain(options, put);
  ASSERT_NE(spill, nullptr);
}

TEST(SpillDeviceTest, AFullDeviceTakesRecordsAgainWhenThereIsSpace) {
  const test::TempFolder folder;
  const auto device = test::SmallDisk::Mount(folder.path(), 24 << 20);
  if (!device.ok()) GTEST_SKIP() << device.status();
  SpillDatabase::Options options = SmallSpill(folder.path() + "/spill");
  options.resume_interval = std::chrono::milliseconds(1);  // between two steps of a failure, too
  PutBlocks put;
  uint64_t records = 0;
  uint64_t blocks = 0;
  {
    const auto spill = OpenSpill(options);
    ASSERT_NE(spill, nullptr);
    ASSERT_TRUE(test::PutBlocksOf(spill->tier(), blocks, 50, put).ok());
    ASSERT_TRUE(spill->tier().Flush().ok());
    blocks += 50;
    for (int round = 0; round < 3; ++round) {
      ASSERT_TRUE((*device)->Fill().ok());
      // Blocks and records meet it together, as when sequences are sealed.
      while (test::PutBlocksOf(spill->tier(), blocks, 1, put).ok() && blocks < 4000) {
        ++blocks;
        if (!spill->tier().Flush().ok()) break;
      }
      const Status full = WriteRecords(*spill, records);
      EXPECT_EQ(full.code(), StatusCode::kResourceExhausted) << full;
      SCOPED_TRACE("round " + std::to_string(round) + ", " + std::to_string(records) + " records");
      ASSERT_TRUE((*device)->Free().ok());
      const Status taken = WriteUntilTaken(*spill, records);
      ASSERT_TRUE(taken.ok()) << taken << ", the device: " << spill->Health().device;
      ASSERT_TRUE(PutUntilTaken(*spill, 10'000 + static_cast<uint64_t>(round), put));
      EXPECT_EQ(test::ReadBlocks(spill->tier(), put).hits, put.size());
      ExpectRecords(*spill, records);
    }
  }
  const auto spill = OpenAgain(options, put);
  ASSERT_NE(spill, nullptr);
  ExpectRecords(*spill, records);
}

TEST(SpillDeviceTest, ADirectoryThatCannotBeWrittenIsRefused) {
  const test::TempFolder folder;
  const auto device = test::SmallDisk::Mount(folder.path(), 1 << 20);
  if (!device.ok()) GTEST_SKIP() << device.status();
  if (::mount("none", folder.path().c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr) != 0) {
    GTEST_SKIP() << "mounting it again to be read only is not permitted here";
  }
  const Status status = SpillDatabase::Open(SmallSpill(folder.path() + "/spill")).status();
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
  EXPECT_NE(status.ToString().find("write access"), std::string::npos) << status;
}

TEST(SpillDeviceTest, AFullDeviceIsToldWhenOpening) {
  const test::TempFolder folder;
  const auto device = test::SmallDisk::Mount(folder.path(), 256 << 10);
  if (!device.ok()) GTEST_SKIP() << device.status();
  ASSERT_TRUE((*device)->Fill().ok());
  const Status status = SpillDatabase::Open(SmallSpill(folder.path() + "/spill")).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
}

}  // namespace
}  // namespace passband
