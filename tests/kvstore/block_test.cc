// Goal: a block's claims, pins and residency are told apart: what is pinned stays, what is
// clean goes at once and comes back, what nobody holds leaves nothing behind.
#include "kvstore/block.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/units.h"
#include "kvstore/block_home.h"
#include "tests/kvstore/memory_tier.h"

namespace passband {
namespace {

constexpr uint64_t kBytes = 1024;
constexpr uint32_t kPlanes = 4;

class BlockTest : public testing::Test {
 protected:
  void SetUp() override {
    auto arena = Arena::Create({.bytes = 64 * kKiB});
    ASSERT_TRUE(arena.ok()) << arena.status();
    arena_ = *std::move(arena);
    home_ = std::make_unique<BlockHome>(*arena_, &tier_);
  }

  BlockRef Make(int mark) {
    BlockRef block = home_->Create(kBytes, kPlanes);
    EXPECT_TRUE(block);
    std::memset(block->data(), mark, kBytes);
    return block;
  }
  // As a writer does it.
  void Write(Block& block) {
    ASSERT_TRUE(block.BeginWrite());
    EXPECT_FALSE(block.BeginWrite());
    const auto address = tier_.Put({block.data(), block.bytes()}, block.planes());
    ASSERT_TRUE(address.ok()) << address.status();
    block.EndWrite(*address);
  }
  bool Evict(Block& block) {
    std::byte* const slot = block.Evict();
    if (slot != nullptr) home_->FreeSlot(slot);
    return slot != nullptr;
  }
  bool Pinnable(Block& block) {
    PlaneSet planes = 0;
    if (!block.TryPin(planes)) return false;
    Pin dropped(&block);
    return true;
  }

  MemoryTier tier_{kMiB};
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<BlockHome> home_;
};

TEST_F(BlockTest, ClaimsOfTheIndexMakeItCached) {
  BlockRef mine = Make(1);
  Block* const block = mine.get();
  block->AddIndexClaim();
  EXPECT_FALSE(block->TakeForWriting());
  EXPECT_FALSE(block->cached());
  EXPECT_EQ(block->users(), 1u);
  block->AddIndexClaim();  // under a second name
  mine = BlockRef();
  EXPECT_TRUE(block->cached());
  EXPECT_EQ(home_->cached_bytes(), kBytes);
  mine = BlockRef(block);
  EXPECT_EQ(home_->cached_bytes(), 0u);
  mine = BlockRef();
  block->DropIndexClaim();
  EXPECT_EQ(home_->cached_bytes(), kBytes);
  EXPECT_EQ(arena_->used_bytes(), kBytes);
  block->DropIndexClaim();
  EXPECT_EQ(home_->cached_bytes(), 0u);
  EXPECT_EQ(arena_->used_bytes(), 0u);
}

TEST_F(BlockTest, APinOutlivesTheClaims) {
  BlockRef claim = Make(7);
  Block* const block = claim.get();
  PlaneSet planes = 0;
  ASSERT_TRUE(block->TryPin(planes));
  auto pin = std::make_unique<Pin>(block);
  claim = BlockRef();
  EXPECT_EQ(arena_->used_bytes(), kBytes);
  EXPECT_EQ(block->data()[kBytes - 1], std::byte{7});
  pin.reset();
  EXPECT_EQ(arena_->used_bytes(), 0u);
}

TEST_F(BlockTest, OnlyACleanBlockThatNobodyPinsLeaves) {
  const BlockRef block = Make(1);
  EXPECT_FALSE(block->BeginWrite()) << "it may still change";
  block->Freeze();
  EXPECT_EQ(home_->dirty_bytes(), kBytes);
  EXPECT_FALSE(Evict(*block.get())) << "it is nowhere else";
  Write(*block.get());
  EXPECT_EQ(home_->dirty_bytes(), 0u);
  EXPECT_EQ(home_->clean_bytes(), kBytes);
  {
    PlaneSet planes = 0;
    ASSERT_TRUE(block->TryPin(planes));
    const Pin pin(block.get());
    EXPECT_FALSE(Evict(*block.get()));
  }
  EXPECT_FALSE(block->TakeForWriting()) << "its copy below would be wrong";
  EXPECT_TRUE(Evict(*block.get()));
  EXPECT_FALSE(Pinnable(*block.get()));
  EXPECT_EQ(arena_->used_bytes(), 0u);
  EXPECT_EQ(home_->clean_bytes(), 0u);
  EXPECT_EQ(home_->spilled_bytes(), kBytes);
}

TEST_F(BlockTest, PlanesComeBackOneAtATime) {
  const BlockRef block = Make(3);
  block->Freeze();
  Write(*block.get());
  ASSERT_TRUE(Evict(*block.get()));
  std::byte* const slot = home_->TakeSlot(*block.get());
  ASSERT_NE(slot, nullptr);
  ASSERT_TRUE(*tier_.Get(block->address(), kPlanes, 0b0100, {slot, kBytes}));
  block->BecomeResident(slot, 0b0100);
  const Pin pin(block.get());
  EXPECT_FALSE(block->full());
  EXPECT_EQ(block->loaded(), 0b0100u);
  ASSERT_TRUE(*tier_.Get(block->address(), kPlanes, 0b1011, {slot, kBytes}));
  block->AddPlanes(0b1011);
  EXPECT_TRUE(block->full());
  EXPECT_EQ(block->data()[0], std::byte{3});
  EXPECT_EQ(home_->spilled_bytes(), 0u);
  EXPECT_EQ(home_->clean_bytes(), kBytes);
}

TEST_F(BlockTest, AForgottenCopyMakesItDirtyOrLost) {
  const BlockRef here = Make(1), part = Make(2), below = Make(3);
  for (const BlockRef& block : {here, part, below}) {
    block->Freeze();
    Write(*block.get());
  }
  ASSERT_TRUE(Evict(*part.get()));
  ASSERT_TRUE(Evict(*below.get()));
  part->BecomeResident(home_->TakeSlot(*part.get()), 0b0001);
  const Pin pin(part.get());
  home_->Forget(here->address().generation);
  EXPECT_FALSE(here->clean());
  EXPECT_FALSE(here->lost());
  EXPECT_EQ(home_->dirty_bytes(), kBytes);
  EXPECT_TRUE(part->lost());
  EXPECT_TRUE(below->lost());
}

TEST_F(BlockTest, TheLastHolderOfASpilledBlockDropsItsCopy) {
  BlockRef block = Make(1);
  block->Freeze();
  Write(*block.get());
  ASSERT_TRUE(Evict(*block.get()));
  EXPECT_EQ(tier_.Stats().blocks, 1u);
  block = BlockRef();
  EXPECT_EQ(tier_.Stats().blocks, 0u);
  EXPECT_EQ(home_->spilled_bytes(), 0u);
}

// Else appends that outrun the disk would push out what fetches go on asking for.
TEST_F(BlockTest, BlocksInUseStayWhileOthersAreStillToBeWritten) {
  using Whose = BlockHome::Whose;
  using Which = BlockHome::Which;
  std::vector<BlockRef> clean;
  for (int i = 0; i < 4; ++i) {
    clean.push_back(Make(i));
    clean.back()->Freeze();
    Write(*clean.back().get());
  }
  BlockRef dirty = Make(9);
  dirty->Freeze();
  EXPECT_EQ(home_->DropClean(kBytes, 0, Whose::kAnyones, Which::kCold), 0u);
  // Two ticks later, two of them have not been used again: a tick is 4 blocks of this arena.
  for (int i = 0; i < 8; ++i) (void)Make(i);
  clean[1]->Touch(home_->tick());
  clean[3]->Touch(home_->tick());
  EXPECT_EQ(home_->DropClean(4 * kBytes, 0, Whose::kAnyones, Which::kCold), 2 * kBytes);
  EXPECT_TRUE(clean[1]->resident() && clean[3]->resident());
  // Whoever brings rows back gets room all the same.
  EXPECT_EQ(home_->DropClean(kBytes, 0, Whose::kAnyones, Which::kAny), kBytes);
  // With nothing left to be written, there is nothing to wait for.
  dirty = {};
  EXPECT_EQ(home_->DropClean(kBytes, 0, Whose::kAnyones, Which::kCold), kBytes);
}

TEST_F(BlockTest, TheColdestOfASampleLeavesFirst) {
  std::vector<BlockRef> blocks;
  for (int i = 0; i < 4; ++i) {
    blocks.push_back(Make(i));
    blocks.back()->Freeze();
    Write(*blocks.back().get());
    blocks.back()->Touch(home_->tick() - (i == 2 ? 1 : 0));
  }
  EXPECT_EQ(home_->DropClean(kBytes, kBytes, BlockHome::Whose::kAnyones), kBytes);
  for (size_t i = 0; i < blocks.size(); ++i) EXPECT_EQ(blocks[i]->resident(), i != 2) << i;
  EXPECT_EQ(home_->DropClean(10 * kBytes, 0, BlockHome::Whose::kAnyones), 3 * kBytes);
}

}  // namespace
}  // namespace passband
