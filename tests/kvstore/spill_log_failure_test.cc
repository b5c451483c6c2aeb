// Goal: a device that fails while records are logged costs time: a batch is taken or refused as a
// whole, nothing that was taken is lost, and writing goes on without a start.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "tests/kvstore/failing_spill.h"

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

using Records = std::map<std::string, std::string>;

// Batches of records, beside what the catalog must hold of them.
class RecordWriter {
 public:
  explicit RecordWriter(uint64_t seed) : random_(seed) {}

  // One batch of new records, changed ones and erased ones. What is refused changes nothing.
  Status WriteOne(Catalog& catalog) {
    CatalogBatch batch;
    Records then = records_;
    for (uint64_t i = 1 + random_() % 4; i > 0; --i) {
      const std::string key = "record " + std::to_string(random_() % 50);
      if (random_() % 3 == 0) {
        batch.Erase(RecordKind::kSequence, key);
        then.erase(key);
      } else {
        const std::string value(1 + random_() % 200'000, static_cast<char>('a' + random_() % 26));
        batch.Put(RecordKind::kSequence, key, value);
        then[key] = value;
      }
    }
    const Status written = catalog.Write(batch);
    if (written.ok()) {
      records_ = std::move(then);
    } else {
      refused_ = std::move(then);
    }
    return written;
  }
  Status WriteUntilTaken(Catalog& catalog) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    Status written = WriteOne(catalog);
    while (!written.ok() && std::chrono::steady_clock::now() < end) written = WriteOne(catalog);
    return written;
  }

  const Records& records() const { return records_; }
  // As they would be with the batch that was refused last.
  const Records& refused() const { return refused_; }

 private:
  std::mt19937_64 random_;
  Records records_;
  Records refused_;
};

// Whether it is on the device or not.
void FlushOne(SpillDatabase& spill, uint64_t seed, PutBlocks& put) {
  if (!test::PutBlocksOf(spill.tier(), seed, 1, put).ok()) return;
  if (!spill.tier().Flush().ok()) put.erase(seed);
}

class SpillLogFaultTest : public testing::TestWithParam<FaultCase> {};

TEST_P(SpillLogFaultTest, RecordsAreRefusedAsAWholeAndTakenAgainWithoutAStart) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  FailingSpill on(seed);
  FailingDisk::Faults healed;
  healed.allocates = GetParam().faults.allocates;
  on.disk.Set(healed);
  RecordWriter writer(seed);
  PutBlocks put;
  {
    const auto spill = OpenSpill(on.options);
    uint64_t refused = 0;
    for (uint64_t round = 0; round < 8; ++round) {
      on.disk.Set(GetParam().faults);
      for (int i = 0; i < 40; ++i) {
        // Blocks beside them: what is flushed begins a new log.
        if (i % 10 == 9) FlushOne(*spill, 1000 * (round + 1) + static_cast<uint64_t>(i), put);
        const Status written = writer.WriteOne(spill->catalog());
        if (written.ok()) continue;
        ++refused;
        EXPECT_TRUE(written.code() == StatusCode::kUnavailable ||
                    written.code() == StatusCode::kResourceExhausted)
            << written;
        if (const Status device = spill->Health().device; !device.ok()) {
          EXPECT_NE(device.ToString().find("Writing goes on by itself"), std::string::npos)
              << device;
        }
      }
      ASSERT_EQ(test::ReadBlocks(spill->tier(), put).hits, put.size()) << "while it fails";
      on.disk.Set(healed);
      const Status taken = writer.WriteUntilTaken(spill->catalog());
      ASSERT_TRUE(taken.ok()) << taken << ", the device: " << spill->Health().device;
      EXPECT_EQ(test::ReadRecords(spill->catalog(), RecordKind::kSequence), writer.records());
      ASSERT_TRUE(PutUntilTaken(*spill, round, put)) << spill->Health().device;
    }
    EXPECT_GT(refused, 0u);
    EXPECT_GT(spill->Health().device_errors, 0u);
  }
  const auto spill = OpenAgain(on.options, put);
  ASSERT_NE(spill, nullptr);
  EXPECT_FALSE(spill->losses().any());
  EXPECT_EQ(test::ReadRecords(spill->catalog(), RecordKind::kSequence), writer.records());
}

TEST_P(SpillLogFaultTest, WhatWasTakenIsBackWhenTheDeviceFailedToTheEnd) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  FailingSpill on(seed);
  FailingDisk::Faults healed;
  healed.allocates = GetParam().faults.allocates;
  on.disk.Set(healed);
  RecordWriter writer(seed);
  PutBlocks put;
  {
    const auto spill = OpenSpill(on.options);
    ASSERT_TRUE(test::PutBlocksOf(spill->tier(), 0, 100, put).ok());
    ASSERT_TRUE(spill->tier().Flush().ok());
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(writer.WriteUntilTaken(spill->catalog()).ok());
    on.disk.Set(GetParam().faults);
    for (int i = 0; i < 100 && writer.WriteOne(spill->catalog()).ok(); ++i) {
    }
  }
  on.disk.Set(healed);
  const auto spill = OpenAgain(on.options, put);
  ASSERT_NE(spill, nullptr);
  const Records back = test::ReadRecords(spill->catalog(), RecordKind::kSequence);
  EXPECT_TRUE(back == writer.records() || back == writer.refused());
  EXPECT_TRUE(writer.WriteOne(spill->catalog()).ok());
}

INSTANTIATE_TEST_SUITE_P(
    Faults, SpillLogFaultTest,
    testing::Values(FaultCase{"Broken", {.write_eio = 1}},
                    FaultCase{"BrokenAtTimes", {.write_eio = .05}},
                    FaultCase{"SyncBroken", {.sync_eio = 1}},
                    FaultCase{"SyncBrokenAtTimes", {.sync_eio = .05}},
                    FaultCase{"NothingWorksForLong", {.write_eio = .3, .sync_eio = .3}},
                    FaultCase{"NoNewFiles", {.create_eio = 1}},
                    FaultCase{"NoNewFilesAtTimes", {.write_eio = .01, .create_eio = .5}},
                    FaultCase{"FullWithoutRoomAhead", {.write_full = 1, .allocates = false}}),
    [](const auto& fault) { return std::string(fault.param.name); });

}  // namespace
}  // namespace passband
