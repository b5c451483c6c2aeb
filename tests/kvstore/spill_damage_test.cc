// Goal: flipped bits and truncated files cost what lay in them and nothing else: never
// other bytes, never a crash, and VerifySpill says what is wrong.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "kvstore/spill_database.h"
#include "kvstore/spill_verify.h"
#include "tests/kvstore/spill_support.h"
#include "tests/support/file_damage.h"
#include "tests/support/temp_folder.h"

namespace passband {
namespace {

using test::FilesOf;
using test::OpenSpill;
using test::PutBlocks;
using test::SmallSpill;

constexpr uint64_t kBlocks = 150;
constexpr uint64_t kRecords = 300;

std::string RecordText(uint64_t i) { return "record " + std::to_string(i); }

// A folder with a closed spill database: its blocks flushed, of its records some in the log.
PutBlocks Fill(const std::string& folder) {
  PutBlocks put;
  const auto spill = OpenSpill(SmallSpill(folder));
  EXPECT_TRUE(test::PutBlocksOf(spill->tier(), 0, kBlocks, put).ok());
  EXPECT_TRUE(spill->tier().Flush().ok());
  for (uint64_t i = 0; i < kRecords; ++i) {
    CatalogBatch batch;
    batch.Put(RecordKind::kColumn, std::to_string(i), RecordText(i));
    EXPECT_TRUE(spill->catalog().Write(batch).ok());
  }
  return put;
}

struct DamageCase {
  const char* name;
  const char* kind;  // part of the file's name
  void (*damage)(const std::string& path, std::mt19937_64& random);
};

class SpillDamageTest : public testing::TestWithParam<DamageCase> {};

TEST_P(SpillDamageTest, CostsWhatLayInTheFileOnly) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  uint64_t opened = 0;
  for (int round = 0; round < 6; ++round) {
    const test::TempFolder folder;
    const PutBlocks put = Fill(folder.path());
    // Once more, so that records lie in files as well as in the log.
    if (round % 2 == 1) OpenSpill(SmallSpill(folder.path()));
    const auto files = FilesOf(folder.path(), GetParam().kind);
    if (files.empty()) continue;
    const std::string& victim = files[random() % files.size()];
    SCOPED_TRACE(victim);
    GetParam().damage(victim, random);

    const auto report = VerifySpill({.directory = folder.path()});
    EXPECT_LE(report.ok() ? report->blocks : 0, kBlocks);

    auto spill = SpillDatabase::Open(SmallSpill(folder.path()));
    if (!spill.ok()) {
      EXPECT_NE(std::string(spill.status().message()).find(folder.path()), std::string::npos)
          << spill.status();
      EXPECT_TRUE(std::string(GetParam().kind) != ".sst" && std::string(GetParam().kind) != ".log")
          << spill.status();
      continue;
    }
    ++opened;
    test::ClaimBlocks((*spill)->tier(), put);
    const test::ReadCounts counts = test::ReadBlocks((*spill)->tier(), put);
    std::map<std::string, std::string> records;
    const auto lost = (*spill)->catalog().ForEach(
        RecordKind::kColumn,
        [&](std::string_view key, std::string_view value) { records.emplace(key, value); });
    ASSERT_TRUE(lost.ok()) << lost.status();
    for (const auto& [key, value] : records) EXPECT_EQ(value, RecordText(std::stoull(key)));
    if (std::string(GetParam().kind) == ".sst") {
      EXPECT_EQ(records.size(), kRecords) << "the other copy has all";
      // Those of a file that could not be opened, or the one that the bit lies in.
      EXPECT_GE(counts.hits + std::max<uint64_t>((*spill)->losses().blocks, 1), kBlocks);
      EXPECT_TRUE(report.ok()) << report.status();
      EXPECT_FALSE(report.ok() && report->ok() && counts.hits != kBlocks) << "not reported";
    }
    if (std::string(GetParam().kind) == ".log") {
      EXPECT_EQ(counts.hits, kBlocks);
    }
    // It goes on as any other.
    PutBlocks more;
    EXPECT_TRUE(test::PutBlocksOf((*spill)->tier(), 1000, 20, more).ok());
    EXPECT_TRUE((*spill)->tier().Flush().ok());
    EXPECT_EQ(test::ReadBlocks((*spill)->tier(), more).hits, 20u);
    for (const auto& [number, address] : more) {
      for (const auto& [old, old_address] : put) EXPECT_NE(address, old_address);
    }
  }
  if (std::string(GetParam().kind) == ".sst") {
    EXPECT_EQ(opened, 6u);
  }
}

INSTANTIATE_TEST_SUITE_P(Damage, SpillDamageTest,
                         testing::Values(DamageCase{"SstFlipped", ".sst", test::FlipBit},
                                         DamageCase{"SstCut", ".sst", test::Truncate},
                                         DamageCase{"SstGone", ".sst", test::Remove},
                                         DamageCase{"LogFlipped", ".log", test::FlipBit},
                                         DamageCase{"LogCut", ".log", test::Truncate},
                                         DamageCase{"LogGone", ".log", test::Remove},
                                         DamageCase{"ManifestFlipped", "MANIFEST", test::FlipBit},
                                         DamageCase{"ManifestCut", "MANIFEST", test::Truncate},
                                         DamageCase{"ManifestGone", "MANIFEST", test::Remove},
                                         DamageCase{"CurrentFlipped", "CURRENT", test::FlipBit},
                                         DamageCase{"CurrentCut", "CURRENT", test::Truncate},
                                         DamageCase{"CurrentGone", "CURRENT", test::Remove},
                                         DamageCase{"MarkerFlipped", "PASSBAND-SPILL",
                                                    test::FlipBit},
                                         DamageCase{"MarkerGone", "PASSBAND-SPILL", test::Remove},
                                         DamageCase{"OptionsFlipped", "OPTIONS", test::FlipBit}),
                         [](const auto& damage) { return std::string(damage.param.name); });

TEST(SpillVerifyTest, AWholeDatabaseIsWhole) {
  const test::TempFolder folder;
  const PutBlocks put = Fill(folder.path());
  uint64_t visited = 0;
  uint64_t last = 0;
  const auto report = VerifySpill(
      {.directory = folder.path(),
       .progress = [&](uint64_t done, uint64_t total) { EXPECT_LE(last = done, total); },
       .record = [&](RecordKind, std::string_view, std::string_view) { ++visited; }});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->ok()) << (report->findings.empty() ? "" : report->findings[0]);
  EXPECT_EQ(report->blocks, kBlocks);
  EXPECT_EQ(report->records, kRecords);
  EXPECT_EQ(visited, kRecords);
  EXPECT_GT(last, kBlocks * test::kSpillBlockBytes);
  for (const auto& [seed, address] : put) EXPECT_TRUE(report->Holds(address));
  EXPECT_FALSE(report->Holds({1, 1}));
}

TEST(SpillVerifyTest, AnOpenDatabaseIsRefusedWithItsOwner) {
  const test::TempFolder folder;
  const auto spill = OpenSpill(SmallSpill(folder.path()));
  const std::string pid = "pid " + std::to_string(::getpid());
  for (const Status& status : {VerifySpill({.directory = folder.path()}).status(),
                               SpillDatabase::Open(SmallSpill(folder.path())).status()}) {
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
    EXPECT_NE(status.ToString().find(pid), std::string::npos) << status;
  }
}

TEST(SpillDirectoryTest, DirectoriesThatCannotBeServedAreRefused) {
  const test::TempFolder folder;
  EXPECT_EQ(SpillDatabase::Open(SmallSpill(folder / "missing")).status().code(),
            StatusCode::kNotFound);
  std::ofstream(folder / "foreign") << "text";
  EXPECT_EQ(SpillDatabase::Open(SmallSpill(folder / "foreign")).status().code(),
            StatusCode::kFailedPrecondition);
  const Status foreign = SpillDatabase::Open(SmallSpill(folder.path())).status();
  EXPECT_EQ(foreign.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(foreign.ToString().find("foreign"), std::string::npos) << foreign;
  EXPECT_TRUE(FilesOf(folder.path(), "OWNER").empty()) << "wrote to a foreign directory";
  const test::TempFolder other;
  std::ofstream(other / "PASSBAND-SPILL") << "passband spill directory\nformat 99\nwhole\n";
  const Status version = SpillDatabase::Open(SmallSpill(other.path())).status();
  EXPECT_EQ(version.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(version.ToString().find("format 99"), std::string::npos) << version;
}

}  // namespace
}  // namespace passband
