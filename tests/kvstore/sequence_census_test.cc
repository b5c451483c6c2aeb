// Goal: records that cannot be read, or that name what is not there, cost the sequences that need
// them and no other; blocks that nobody names are orphans.
#include "kvstore/sequence_census.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/kvstore/spill_support.h"
#include "tests/support/temp_folder.h"

namespace passband {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A directory in which tenant a has sequences 1 and 2, which share column 1; 2 has a tail; 3 is
// all of column 2.
class SequenceCensusTest : public testing::Test {
 protected:
  void SetUp() override {
    spill_ = test::OpenSpill(test::SmallSpill(folder_.path()));
    ASSERT_NE(spill_, nullptr);
    test::PutBlocks put;
    ASSERT_TRUE(test::PutBlocksOf(spill_->tier(), 0, 8, put).ok());
    ASSERT_TRUE(spill_->tier().Flush().ok());
    for (const auto& [seed, address] : put) blocks_.push_back(address);
    PutRecord(RecordKind::kModel, "m", Encode(model_));
    PutColumn({.number = 1, .blocks = {blocks_[0], blocks_[1]}});
    PutColumn({.number = 2, .blocks = {blocks_[2], blocks_[3]}});
    PutSequence({.id = 1, .committed = 64, .columns = {1}});
    PutSequence({.id = 2, .committed = 70, .columns = {1}, .tail = {blocks_[4], blocks_[5]}});
    PutSequence({.id = 3, .committed = 64, .columns = {2}});
  }

  void PutRecord(RecordKind kind, const std::string& key, const std::string& value) {
    CatalogBatch batch;
    batch.Put(kind, key, value);
    ASSERT_TRUE(spill_->catalog().Write(batch).ok());
  }
  void PutColumn(const ColumnRecord& column) {
    PutRecord(RecordKind::kColumn, NumberKey(column.number), Encode(column));
  }
  void PutSequence(SequenceRecord sequence) {
    sequence.tenant = "a";
    if (sequence.model.empty()) sequence.model = "m";
    PutRecord(RecordKind::kSequence, NumberKey(sequence.id), Encode(sequence));
  }
  // Named by a letter; of the model and the tenant that the others have.
  static PrefixDigest Name(char letter) {
    PrefixDigest name;
    name.fill(static_cast<std::byte>(letter));
    return name;
  }
  // `parent`: 0 for a first column.
  void PutPrefix(char name, char parent, std::vector<BlockAddress> blocks) {
    const PrefixRecord record{.digest = Name(name),
                              .first = parent == 0,
                              .parent = parent == 0 ? PrefixDigest{} : Name(parent),
                              .tenant = "a",
                              .model = "m",
                              .blocks = std::move(blocks)};
    PutRecord(RecordKind::kPrefix, DigestKey(record.digest), Encode(record));
  }
  CensusReport Count() {
    spill_.reset();
    SequenceCensus census;
    const auto report =
        VerifySpill({.directory = folder_.path(),
                     .record = [&](RecordKind kind, std::string_view key, std::string_view value) {
                       census.Add(kind, key, value);
                     }});
    EXPECT_TRUE(report.ok()) << report.status();
    EXPECT_TRUE(report.ok() && report->ok()) << "as bytes all is whole";
    return census.Count(*report);
  }

  const test::TempFolder folder_;
  const ModelSpec model_{
      .fingerprint = "m", .name = "M", .shape = {.layers = 2, .kv_heads = 4, .row_bytes = 64}};
  std::vector<BlockAddress> blocks_;
  std::unique_ptr<SpillDatabase> spill_;
};

TEST_F(SequenceCensusTest, WhatIsWholeIsWhole) {
  const CensusReport report = Count();
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.whole, 3U);
  EXPECT_EQ(report.models, 1U);
  EXPECT_EQ(report.missing_blocks, 0U);
  EXPECT_EQ(report.orphaned_blocks, 2U);
  EXPECT_TRUE(report.hurt.empty());
}

TEST_F(SequenceCensusTest, AColumnThatIsGoneCostsWhoIsMadeOfIt) {
  PutRecord(RecordKind::kColumn, NumberKey(1), Encode(ColumnRecord{.blocks = {blocks_[0]}}));
  const CensusReport report = Count();
  EXPECT_FALSE(report.ok());
  EXPECT_EQ(report.whole, 1U);
  EXPECT_EQ(report.lost, 2U);
  ASSERT_EQ(report.hurt.size(), 2U);
  EXPECT_EQ(report.hurt[0].id, 1U);
  EXPECT_EQ(report.hurt[0].lost_tokens, 64U);
  EXPECT_THAT(report.hurt[0].why, HasSubstr("column 1"));
  EXPECT_EQ(report.orphaned_blocks, 3U);
}

TEST_F(SequenceCensusTest, RowsOfBlocksThatAreNotThereAreLost) {
  PutColumn({.number = 2, .blocks = {blocks_[2], {9, 9}}});
  const CensusReport report = Count();
  EXPECT_EQ(report.whole, 2U);
  EXPECT_EQ(report.damaged, 1U);
  EXPECT_EQ(report.missing_blocks, 1U);
  ASSERT_EQ(report.hurt.size(), 1U);
  EXPECT_EQ(report.hurt[0].id, 3U);
  EXPECT_EQ(report.hurt[0].lost_tokens, 64U);
}

TEST_F(SequenceCensusTest, ATailThatIsNotThereCostsItsTokens) {
  PutSequence({.id = 2, .committed = 70, .columns = {1}, .tail = {{9, 1}, blocks_[5]}});
  const CensusReport report = Count();
  ASSERT_EQ(report.hurt.size(), 1U);
  EXPECT_EQ(report.hurt[0].tokens, 70U);
  EXPECT_EQ(report.hurt[0].lost_tokens, 6U);
}

TEST_F(SequenceCensusTest, ForgottenGenerationsAreNotServed) {
  PutRecord(RecordKind::kStore, kForgottenKey, Encode(blocks_[0].generation));
  EXPECT_EQ(Count().damaged, 3U);
}

TEST_F(SequenceCensusTest, RecordsThatSayNothingAreCountedAndSaid) {
  PutRecord(RecordKind::kSequence, NumberKey(1), "\x01 no record");
  PutRecord(RecordKind::kProfile, "digest", "no number");
  PutRecord(RecordKind::kStore, kIdsKey, "\x07");
  PutRecord(RecordKind::kPrefix, "short", "\x01");
  PutRecord(RecordKind{77}, "key", "value");
  const CensusReport report = Count();
  EXPECT_EQ(report.unreadable_records, 5U);
  EXPECT_EQ(report.lost, 1U);
  EXPECT_EQ(report.whole, 2U);
  EXPECT_THAT(report.findings, ElementsAre(HasSubstr("profile record"),
                                           HasSubstr("sequence record"), HasSubstr("version 7"),
                                           HasSubstr("prefix record"), HasSubstr("kind 77")));
}

TEST_F(SequenceCensusTest, PrefixesAreToldFromSequences) {
  PutColumn({.number = 1, .named = true, .digest = Name('s'), .blocks = {blocks_[0], blocks_[1]}});
  PutPrefix('s', 0, {blocks_[0], blocks_[1]});
  PutPrefix('t', 's', {blocks_[2], blocks_[3]});
  PutPrefix('p', 0, {blocks_[6], blocks_[7]});
  const CensusReport report = Count();
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.whole, 3U);
  EXPECT_EQ(report.prefixes, 3U);
  EXPECT_EQ(report.shared_prefixes, 1U) << "sequences 1 and 2 have it";
  EXPECT_EQ(report.stale_prefixes + report.damaged_prefixes, 0U);
  EXPECT_EQ(report.orphaned_blocks, 0U) << "what a prefix names is no orphan";
}

TEST_F(SequenceCensusTest, APrefixWithoutItsBlocksOrItsBeginningIsStale) {
  PutPrefix('p', 0, {{9, 9}, blocks_[7]});
  PutPrefix('q', 'p', {blocks_[6], blocks_[7]});
  PutPrefix('x', 'y', {blocks_[6], blocks_[7]});
  PutPrefix('w', 0, {blocks_[6]});
  const CensusReport report = Count();
  EXPECT_TRUE(report.ok()) << "a server that was killed leaves such, and erases them";
  EXPECT_EQ(report.stale_prefixes, 4U);
  EXPECT_EQ(report.prefixes, 0U);
  EXPECT_EQ(report.missing_blocks, 0U);
}

TEST_F(SequenceCensusTest, APrefixLacksABlockThatShouldBeThere) {
  PutPrefix('p', 0, {{blocks_[0].generation, 99}, blocks_[7]});
  const CensusReport report = Count();
  EXPECT_FALSE(report.ok());
  EXPECT_EQ(report.damaged_prefixes, 1U);
  EXPECT_EQ(report.whole, 3U) << "and costs no sequence";
}

TEST_F(SequenceCensusTest, AStaleRecordOfASequencesColumnIsNoDamage) {
  PutColumn({.number = 1, .named = true, .digest = Name('s'), .blocks = {blocks_[0], blocks_[1]}});
  PutPrefix('s', 0, {{9, 9}, {9, 8}});
  PutPrefix('t', 's', {blocks_[6], blocks_[7]});
  const CensusReport report = Count();
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.stale_prefixes, 1U);
  EXPECT_EQ(report.prefixes, 1U);
}

TEST_F(SequenceCensusTest, WithoutItsModelASequenceIsLost) {
  PutSequence({.id = 4, .model = "other", .committed = 64, .columns = {2}});
  const CensusReport report = Count();
  EXPECT_EQ(report.lost, 1U);
  ASSERT_EQ(report.hurt.size(), 1U);
  EXPECT_THAT(report.hurt[0].why, HasSubstr("model"));
}

}  // namespace
}  // namespace passband
