// Goal: prefixes are found by tenant, model and every token before; what is least
// recently used and unclaimed goes first, and never before what continues it; which columns are
// to be recorded, and whose records are to go, is told exactly.
#include "kvstore/prefix_index.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "kvstore/block_pool.h"
#include "tests/kvstore/memory_tier.h"

namespace passband {
namespace {

const PrefixSpace kSpace{.tenant = "t", .model = "m"};

std::vector<uint32_t> Ids(uint64_t count, uint32_t start = 0) {
  std::vector<uint32_t> ids(count);
  std::iota(ids.begin(), ids.end(), start);
  return ids;
}

std::vector<PrefixDigest> ChainOf(const PrefixDigest& root, std::span<const uint32_t> ids) {
  std::vector<PrefixDigest> chain;
  ExtendPrefixChain(root, ids, chain);
  return chain;
}

TEST(PrefixChainTest, OnlyWholeBlocksAndInPieces) {
  const PrefixDigest root = PrefixRoot("m", "t");
  const auto ids = Ids(200);
  const auto whole = ChainOf(root, ids);
  ASSERT_EQ(whole.size(), 3u);
  std::vector<PrefixDigest> pieces = ChainOf(root, std::span(ids).first(64));
  ExtendPrefixChain(pieces.back(), std::span(ids).subspan(64), pieces);
  EXPECT_EQ(pieces, whole);
}

TEST(PrefixChainTest, EverythingBeforeCounts) {
  const auto ids = Ids(128);
  const auto chain = ChainOf(PrefixRoot("m", "t"), ids);
  EXPECT_NE(ChainOf(PrefixRoot("m", "u"), ids), chain);
  EXPECT_NE(ChainOf(PrefixRoot("n", "t"), ids), chain);
  EXPECT_NE(PrefixRoot("mt", ""), PrefixRoot("m", "t"));
  auto other = ids;
  other[0] ^= 1;
  EXPECT_NE(ChainOf(PrefixRoot("m", "t"), other)[1], chain[1]);
}

class PrefixIndexTest : public testing::Test {
 protected:
  void SetUp() override {
    auto arena = Arena::Create({.bytes = 64 << 10});
    ASSERT_TRUE(arena.ok()) << arena.status();
    arena_ = *std::move(arena);
    home_ = std::make_unique<BlockHome>(*arena_, nullptr);
    index_ = std::make_unique<PrefixIndex>(*home_);
  }

  // Inserts every column of a chain with blocks of its own; returns them.
  std::vector<NamedColumn> Insert(const std::vector<PrefixDigest>& chain) {
    std::vector<NamedColumn> columns;
    for (size_t i = 0; i < chain.size(); ++i) {
      NamedColumn column{.digest = chain[i], .parent = {}, .first = i == 0, .blocks = {}};
      if (i > 0) column.parent = chain[i - 1];
      for (int layer = 0; layer < 2; ++layer) column.blocks.push_back(home_->Create(1024, 1));
      EXPECT_TRUE(index_->Insert(column, kSpace));
      columns.push_back(std::move(column));
    }
    return columns;
  }

  const PrefixDigest root_ = PrefixRoot("m", "t");
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<BlockHome> home_;
  std::unique_ptr<PrefixIndex> index_;
};

TEST_F(PrefixIndexTest, MatchesTheLongestPrefix) {
  const auto ids = Ids(256);
  const auto chain = ChainOf(root_, ids);
  const auto given = Insert({chain.begin(), chain.begin() + 3});
  auto asked = ids;
  EXPECT_EQ(index_->Count(chain), 3u);
  const auto columns = index_->Match(chain);
  ASSERT_EQ(columns.size(), 3u);
  EXPECT_EQ(columns[2][1], given[2].blocks[1]);
  asked[100] ^= 1;
  EXPECT_EQ(index_->Count(ChainOf(root_, asked)), 1u);
}

TEST_F(PrefixIndexTest, RefusesAColumnThatNobodyWouldFind) {
  const auto chain = ChainOf(root_, Ids(128));
  NamedColumn second{.digest = chain[1], .parent = chain[0], .first = false, .blocks = {}};
  EXPECT_FALSE(index_->Insert(second, kSpace));
  EXPECT_EQ(index_->columns(), 0u);
}

TEST_F(PrefixIndexTest, EqualPrefixesKeepTheFirstBlocks) {
  const auto chain = ChainOf(root_, Ids(64));
  const auto first = Insert(chain);
  const auto second = Insert(chain);
  EXPECT_EQ(index_->columns(), 1u);
  EXPECT_EQ(index_->Match(chain)[0][0], first[0].blocks[0]);
}

TEST_F(PrefixIndexTest, EvictsTheLeastRecentlyUsedFromItsEnd) {
  const auto a = ChainOf(root_, Ids(192));
  const auto b = ChainOf(root_, Ids(128, 5000));
  Insert(a);
  Insert(b);
  index_->Match(a);  // b is older now
  EXPECT_EQ(index_->EvictOne(), 2u);
  EXPECT_EQ(index_->Count(b), 1u);
  EXPECT_EQ(index_->EvictOne(), 2u);
  EXPECT_EQ(index_->Count(b), 0u);
  EXPECT_EQ(index_->EvictOne(), 2u);
  EXPECT_EQ(index_->Count(a), 2u);
  // A use of the beginning alone keeps the end no longer, and the beginning so.
  index_->Match(std::span(a).first(1));
  Insert(b);
  EXPECT_EQ(index_->EvictOne(), 2u);
  EXPECT_EQ(index_->Count(a), 1u);
}

TEST_F(PrefixIndexTest, WhatSomebodyClaimsStays) {
  const auto a = ChainOf(root_, Ids(128));
  const auto b = ChainOf(root_, Ids(64, 900));
  Insert(a);
  Insert(b);
  const auto claimed = index_->Match(a);
  index_->Match(b);
  EXPECT_EQ(index_->EvictOne(), 2u);
  EXPECT_EQ(index_->Count(b), 0u);
  EXPECT_EQ(index_->EvictOne(), 0u);
  EXPECT_EQ(index_->Count(a), 2u);
}

TEST_F(PrefixIndexTest, UnclaimedColumnBeforeAClaimedOneGoesWithIt) {
  const auto a = ChainOf(root_, Ids(192));
  auto columns = Insert(a);
  columns.erase(columns.begin(), columns.begin() + 2);  // claims only the last
  EXPECT_GT(index_->EvictOne(), 0u);
  EXPECT_LT(index_->Count(a), 2u);
  while (index_->EvictOne() > 0) {
  }
  EXPECT_EQ(home_->cached_bytes(), 0u);
  EXPECT_EQ(arena_->used_bytes(), 2048u);
}

TEST_F(PrefixIndexTest, PoolTakesCachedBlocksBeforeItFails) {
  BlockPool pool(*home_, *index_);
  Insert(ChainOf(root_, Ids(64 * 20)));
  std::vector<BlockRef> blocks;
  for (int i = 0; i < 64; ++i) {
    auto block = pool.Allocate(1024, 1);
    ASSERT_TRUE(block.ok()) << block.status();
    blocks.push_back(*std::move(block));
  }
  EXPECT_EQ(pool.evicted_blocks(), 40u);
  const Status full = pool.Allocate(1024, 1).status();
  EXPECT_EQ(full.code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(RetryAfter(full).has_value());
  EXPECT_EQ(pool.failures(), 1u);
}

// An index over a tier, whose columns are recorded.
class PrefixJournalTest : public testing::Test {
 protected:
  static constexpr uint64_t kBytes = 1024;

  void SetUp() override {
    auto arena = Arena::Create({.bytes = 64 << 10});
    ASSERT_TRUE(arena.ok()) << arena.status();
    arena_ = *std::move(arena);
    home_ = std::make_unique<BlockHome>(*arena_, &tier_);
    index_ = std::make_unique<PrefixIndex>(*home_);
    index_->StartJournal();
  }

  static std::vector<PrefixDigest> Chain(uint64_t columns, uint32_t start = 0) {
    return ChainOf(PrefixRoot("m", "t"), Ids(64 * columns, start));
  }
  // Column `i` of a chain, of two frozen blocks that are in RAM only.
  std::vector<BlockRef> Insert(const std::vector<PrefixDigest>& chain, size_t i) {
    NamedColumn column{.digest = chain[i], .parent = {}, .first = i == 0, .blocks = {}};
    if (i > 0) column.parent = chain[i - 1];
    for (int layer = 0; layer < 2; ++layer) {
      column.blocks.push_back(home_->Create(kBytes, 1));
      column.blocks.back()->Freeze();
    }
    EXPECT_TRUE(index_->Insert(column, kSpace));
    return column.blocks;
  }
  void Write(const std::vector<BlockRef>& blocks) {
    for (const BlockRef& block : blocks) {
      ASSERT_TRUE(block->BeginWrite());
      const auto address = tier_.Put({block->data(), block->bytes()}, block->planes());
      ASSERT_TRUE(address.ok()) << address.status();
      block->EndWrite(*address);
    }
  }
  // Out of RAM.
  void Leave(const std::vector<BlockRef>& blocks) {
    for (const BlockRef& block : blocks) {
      std::byte* const slot = block->Evict();
      ASSERT_NE(slot, nullptr);
      home_->FreeSlot(slot);
    }
  }
  std::vector<PrefixDigest> Taken() {
    std::vector<PrefixDigest> names;
    for (const PrefixRecord& record : index_->TakeStored().columns) names.push_back(record.digest);
    return names;
  }

  MemoryTier tier_{1 << 20, 4 * kBytes};
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<BlockHome> home_;
  std::unique_ptr<PrefixIndex> index_;
};

TEST_F(PrefixJournalTest, AColumnIsTakenOnceTheTierHoldsAllOfIt) {
  const auto chain = Chain(2);
  const auto first = Insert(chain, 0);
  const auto second = Insert(chain, 1);
  EXPECT_TRUE(Taken().empty());
  Write({first[0]});
  EXPECT_TRUE(Taken().empty());
  Write({first[1]});
  const PrefixIndex::Stored stored = index_->TakeStored();
  ASSERT_EQ(stored.columns.size(), 1U);
  EXPECT_EQ(stored.columns[0],
            (PrefixRecord{.digest = chain[0],
                          .first = true,
                          .tenant = "t",
                          .model = "m",
                          .blocks = {first[0]->address(), first[1]->address()}}));
  EXPECT_TRUE(Taken().empty()) << "once";
  EXPECT_EQ(index_->recorded(), 1U);
  Write(second);
  Leave(second);
  const auto next = index_->TakeStored(chain);
  ASSERT_EQ(next.size(), 1U);
  EXPECT_EQ(next[0].parent, chain[0]);
  EXPECT_FALSE(next[0].first);
  EXPECT_TRUE(index_->TakeGone().empty());
}

TEST_F(PrefixJournalTest, WhatGoesIsToldOnceAndOnlyIfItWasRecorded) {
  const auto a = Chain(1);
  const auto b = Chain(1, 5000);
  Write(Insert(a, 0));
  Insert(b, 0);
  EXPECT_EQ(Taken(), a);
  while (index_->EvictOne() > 0) {
  }
  EXPECT_EQ(index_->columns(), 0U);
  EXPECT_EQ(index_->recorded(), 0U);
  EXPECT_EQ(index_->TakeGone(), a);
  EXPECT_TRUE(index_->TakeGone().empty());
}

TEST_F(PrefixJournalTest, WhatIsBackAndRecordedAnewIsNotGone) {
  const auto chain = Chain(1);
  Write(Insert(chain, 0));
  EXPECT_EQ(Taken(), chain);
  EXPECT_EQ(index_->EvictOne(), 2U);
  const auto again = Insert(chain, 0);
  Write(again);
  EXPECT_EQ(Taken(), chain);
  EXPECT_TRUE(index_->TakeGone().empty()) << "its record is the new one";
  // Back, and not yet recorded: the former record names blocks that are gone.
  EXPECT_EQ(index_->EvictOne(), 0U) << "claimed";
}

TEST_F(PrefixJournalTest, ARecordThatNamesWhatTheTierForgotIsGone) {
  const auto ram = Chain(1);
  const auto disk = Chain(2, 5000);
  const auto kept = Insert(ram, 0);
  const auto lost = Insert(disk, 0);
  Write(kept);
  Write(lost);
  const auto after = Insert(disk, 1);
  Write(after);
  Leave(lost);
  EXPECT_EQ(Taken().size(), 3U);
  const auto generation = tier_.DropOldest();
  ASSERT_TRUE(generation.ok()) << generation.status();
  ASSERT_EQ(lost[0]->address().generation, *generation);
  ASSERT_GT(after[0]->address().generation, *generation);
  home_->Forget(*generation);
  index_->ForgetRecords(*generation);
  auto gone = index_->TakeGone();
  EXPECT_EQ(gone.size(), 3U) << "with what continues the lost one";
  EXPECT_EQ(index_->columns(), 1U);
  EXPECT_EQ(index_->Count(ram), 1U);
  EXPECT_TRUE(Taken().empty()) << "it has no copy any more";
  Write(kept);
  EXPECT_EQ(Taken(), ram);
}

TEST_F(PrefixJournalTest, ColumnsBeforeRecordedOnesAreAskedFor) {
  const auto chain = Chain(4);
  std::vector<std::vector<BlockRef>> blocks;
  for (size_t i = 0; i < 4; ++i) blocks.push_back(Insert(chain, i));
  EXPECT_TRUE(index_->TakeStored().lacking.empty()) << "nothing is recorded";
  Write(blocks[1]);
  Write(blocks[3]);
  std::set<Block*> lacking;
  for (const BlockRef& block : index_->TakeStored().lacking) lacking.insert(block.get());
  const std::set<Block*> expected = {blocks[0][0].get(), blocks[0][1].get(), blocks[2][0].get(),
                                     blocks[2][1].get()};
  EXPECT_EQ(lacking, expected);
  EXPECT_EQ(index_->recorded(), 0U) << "none could be reached";
  Write(blocks[0]);
  EXPECT_EQ(Taken(), (std::vector{chain[0], chain[1]}));
  Write(blocks[2]);
  EXPECT_EQ(Taken(), (std::vector{chain[2], chain[3]})) << "each behind the one before it";
  EXPECT_TRUE(index_->TakeStored().lacking.empty());
}

TEST_F(PrefixJournalTest, ARecordIsNotedOnlyIfItSaysWhereTheColumnIs) {
  const auto chain = Chain(1);
  const auto blocks = Insert(chain, 0);
  Write(blocks);
  PrefixRecord record{.digest = chain[0],
                      .first = true,
                      .tenant = "t",
                      .model = "m",
                      .blocks = {blocks[0]->address(), {9, 9}}};
  EXPECT_TRUE(index_->NoteRecord(record)) << "the column is here";
  EXPECT_EQ(index_->recorded(), 0U);
  record.blocks[1] = blocks[1]->address();
  EXPECT_TRUE(index_->NoteRecord(record));
  EXPECT_EQ(index_->recorded(), 1U);
  EXPECT_TRUE(Taken().empty());
  record.digest = Chain(1, 77)[0];
  EXPECT_FALSE(index_->NoteRecord(record));
}

TEST_F(PrefixJournalTest, StoredColumnsThatNobodyUsesMakeRoom) {
  const auto used = Chain(2);
  const auto unused = Chain(3, 5000);
  const auto ram = Chain(1, 9000);
  const auto claims = Insert(used, 0);
  Write(claims);
  Write(Insert(used, 1));
  for (size_t i = 0; i < 3; ++i) Write(Insert(unused, i));
  Insert(ram, 0);
  EXPECT_EQ(index_->DropStored(), 4U);
  EXPECT_EQ(index_->Count(used), 1U);
  EXPECT_EQ(index_->Count(unused), 0U);
  EXPECT_EQ(index_->Count(ram), 1U) << "it takes no room there";
  EXPECT_EQ(tier_.Stats().blocks, 2U);
  EXPECT_EQ(index_->DropStored(), 0U);
}

}  // namespace
}  // namespace passband
