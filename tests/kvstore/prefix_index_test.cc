// Goal: prefixes are found by tenant, model and every token before; what is least
// recently used and unclaimed goes first, and never before what continues it.
#include "kvstore/prefix_index.h"

#include <gtest/gtest.h>

#include <numeric>

#include "kvstore/block_pool.h"

namespace passband {
namespace {

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
      EXPECT_TRUE(index_->Insert(column));
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
  EXPECT_FALSE(index_->Insert(second));
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

}  // namespace
}  // namespace passband
