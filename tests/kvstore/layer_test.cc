// Goal: appends of a layer may complete out of order and become visible in order;
// a failed one voids what follows; and no row that anyone can see is ever written.
#include "kvstore/layer.h"

#include <gtest/gtest.h>

#include <cstring>

namespace passband {
namespace {

constexpr KvShape kShape{.layers = 1, .kv_heads = 2, .row_bytes = 16};

class LayerTest : public testing::Test {
 protected:
  void SetUp() override {
    auto arena = Arena::Create({.bytes = 64 << 10});
    ASSERT_TRUE(arena.ok()) << arena.status();
    arena_ = *std::move(arena);
    home_ = std::make_unique<BlockHome>(*arena_, nullptr);
    index_ = std::make_unique<PrefixIndex>(*home_);
    pool_ = std::make_unique<BlockPool>(*home_, *index_);
  }

  Layer::Ticket Reserve(Layer& layer, uint64_t first, uint32_t count) {
    auto ticket = layer.Reserve(first, count, *pool_, SequenceId(1), missing_);
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    return *std::move(ticket);
  }
  // Writes `mark` into every row of the ticket.
  void Fill(const Layer::Ticket& ticket, int mark) {
    for (uint64_t head = 0; head < kShape.kv_heads; ++head) {
      std::byte* rows = ticket.block->data() +
                        (head * kBlockTokens + ticket.first % kBlockTokens) * kShape.row_bytes;
      std::memset(rows, mark, ticket.count * kShape.row_bytes);
    }
  }
  void Append(Layer& layer, uint32_t count, int mark) {
    const Layer::Ticket ticket = Reserve(layer, layer.reserved(), count);
    Fill(ticket, mark);
    ASSERT_TRUE(layer.Commit(ticket).ok());
  }
  // The mark of each visible row, and that both heads agree.
  std::vector<int> Marks(const Layer& layer) {
    PinnedRows rows;
    layer.ResolveRange(0, layer.published(), SequenceId(1), rows, missing_);
    std::vector<int> marks;
    for (uint64_t t = 0; t < layer.published(); ++t) {
      EXPECT_EQ(*rows.rows()[t], *rows.rows()[layer.published() + t]);
      marks.push_back(static_cast<int>(*rows.rows()[t]));
    }
    return marks;
  }
  Layer Empty() { return *Layer::Create(kShape, 0, account_, {}, 0); }
  Layer Share(const Layer& layer, uint64_t tokens) {
    const auto& blocks = layer.blocks();
    const auto count = static_cast<ptrdiff_t>((tokens + kBlockTokens - 1) / kBlockTokens);
    return *Layer::Create(kShape, 0, account_, {blocks.begin(), blocks.begin() + count}, tokens);
  }

  std::unique_ptr<Arena> arena_;
  std::unique_ptr<BlockHome> home_;
  std::unique_ptr<PrefixIndex> index_;
  std::unique_ptr<BlockPool> pool_;
  const std::shared_ptr<TenantAccount> account_ =
      std::make_shared<TenantAccount>("tenant", TenantQuota());
  MissingBlocks missing_;  // stays empty: there is no tier
  std::vector<BlockRef> released_;
};

TEST_F(LayerTest, VisibleInOrderWhateverTheOrderOfCommits) {
  Layer layer = Empty();
  const auto a = Reserve(layer, 0, 2);
  const auto b = Reserve(layer, 2, 1);
  const auto c = Reserve(layer, 3, 1);
  Fill(a, 1), Fill(b, 2), Fill(c, 3);
  ASSERT_TRUE(layer.Commit(c).ok());
  EXPECT_EQ(layer.published(), 0u);
  ASSERT_TRUE(layer.Commit(a).ok());
  EXPECT_EQ(layer.published(), 2u);
  ASSERT_TRUE(layer.Commit(b).ok());
  EXPECT_EQ(Marks(layer), (std::vector{1, 1, 2, 3}));
}

TEST_F(LayerTest, GapAndRepetitionAreToldApart) {
  Layer layer = Empty();
  Append(layer, 5, 1);
  EXPECT_EQ(layer.Reserve(6, 1, *pool_, SequenceId(1), missing_).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_EQ(layer.Reserve(4, 1, *pool_, SequenceId(1), missing_).status().code(),
            StatusCode::kAlreadyExists);
}

TEST_F(LayerTest, AbortVoidsLaterTicketsAndKeepsEarlierOnes) {
  Layer layer = Empty();
  const auto a = Reserve(layer, 0, 2);
  const auto b = Reserve(layer, 2, 2);
  const auto c = Reserve(layer, 4, 2);
  Fill(c, 3);
  ASSERT_TRUE(layer.Commit(c).ok());
  layer.Abort(b, released_);
  EXPECT_EQ(layer.reserved(), 2u);
  EXPECT_EQ(layer.Commit(b).code(), StatusCode::kAborted);
  EXPECT_EQ(layer.Commit(c).code(), StatusCode::kAborted);
  // The place is given again; neither the void tickets' holders nor the one
  // still writing before it get in each other's way.
  const auto d = Reserve(layer, 2, 2);
  Fill(b, 9), Fill(c, 9), Fill(d, 4), Fill(a, 1);
  layer.Abort(c, released_);  // void already: changes nothing
  ASSERT_TRUE(layer.Commit(d).ok());
  ASSERT_TRUE(layer.Commit(a).ok());
  EXPECT_EQ(Marks(layer), (std::vector{1, 1, 4, 4}));
}

TEST_F(LayerTest, AbortGivesUnusedBlocksBack) {
  Layer layer = Empty();
  Append(layer, 60, 1);
  {
    const auto a = Reserve(layer, 60, 4);
    const auto b = Reserve(layer, 64, 64);
    layer.Abort(a, released_);
  }
  released_.clear();
  EXPECT_EQ(layer.blocks().size(), 1u);
  EXPECT_EQ(arena_->used_bytes(), kShape.block_bytes());
}

TEST_F(LayerTest, ForkCopiesTheTailAndTheOriginalWritesOnInPlace) {
  Layer layer = Empty();
  Append(layer, 10, 1);
  Layer fork = Share(layer, 6);
  const Block* const shared = layer.blocks()[0].get();
  Append(layer, 3, 2);
  EXPECT_EQ(layer.blocks()[0].get(), shared);
  Append(fork, 3, 3);
  EXPECT_NE(fork.blocks()[0].get(), shared);
  EXPECT_EQ(Marks(layer), (std::vector{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2}));
  EXPECT_EQ(Marks(fork), (std::vector{1, 1, 1, 1, 1, 1, 3, 3, 3}));
}

TEST_F(LayerTest, PinnedRowsSurviveTruncationAndRewriting) {
  Layer layer = Empty();
  Append(layer, 4, 1);
  PinnedRows pinned;
  layer.ResolveRange(0, 4, SequenceId(1), pinned, missing_);
  layer.Truncate(2, released_);
  Append(layer, 2, 2);
  EXPECT_EQ(*pinned.rows()[3], std::byte{1});
  EXPECT_EQ(Marks(layer), (std::vector{1, 1, 2, 2}));
}

TEST_F(LayerTest, TruncatedTailOfItsOwnIsRewrittenInPlace) {
  Layer layer = Empty();
  Append(layer, 4, 1);
  const Block* const own = layer.blocks()[0].get();
  layer.Truncate(2, released_);
  Append(layer, 2, 2);
  EXPECT_EQ(layer.blocks()[0].get(), own);
}

TEST_F(LayerTest, FullArenaLeavesTheLayerAsItWas) {
  Layer layer = Empty();
  std::vector<BlockRef> hoard;
  Append(layer, 10, 1);
  Layer fork = Share(layer, 10);
  while (BlockRef block = home_->Create(kShape.block_bytes(), 1)) hoard.push_back(block);
  EXPECT_EQ(fork.Reserve(10, 1, *pool_, SequenceId(1), missing_).status().code(),
            StatusCode::kResourceExhausted);
  EXPECT_EQ(fork.reserved(), 10u);
  hoard.clear();
  Append(fork, 1, 2);
  EXPECT_EQ(fork.published(), 11u);
}

}  // namespace
}  // namespace passband
