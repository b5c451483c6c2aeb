// Goal: what is sealed survives a crash: the same bytes, prefixes and ids; what is not is
// NOT_FOUND; damage costs what it hits, and is counted; no id is given twice.
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <thread>

#include "kvstore/catalog_records.h"
#include "tests/kvstore/store_restart_fixture.h"

namespace passband {
namespace {

using test::kBlockBytes;
using test::kShape;
using test::kTenant;
using test::StoreRestartTest;

TEST_F(StoreRestartTest, IdsOfAnEarlierRunMeetNoSequence) {
  std::set<uint64_t> given;
  SequenceId last;
  for (int run = 0; run < 5; ++run) {
    EXPECT_EQ(store_->Stat(kTenant, last).status().code(), StatusCode::kNotFound);
    for (int i = 0; i < 100; ++i) {
      last = Open();
      EXPECT_TRUE(given.insert(last.value()).second) << last.value();
      EXPECT_LT(last.value(), uint64_t{1} << 53) << "a number that JSON readers keep";
    }
    CrashAndStart();
  }
}

// A quota that was lowered meanwhile costs no sealed sequence.
TEST_F(StoreRestartTest, WhatComesBackIsOnItsTenantsBill) {
  const SequenceId id = Open();
  Append(id, 0, 128, 1);
  ASSERT_TRUE(store_->Seal(kTenant, id).ok());
  Settle();
  quota_ = {.bytes = 0, .sequences = 1};
  CrashAndStart();
  ASSERT_EQ(store_->Tenants(10).size(), 1U);
  EXPECT_EQ(store_->Tenants(10).front().tenant, kTenant);
  EXPECT_EQ(store_->Tenants(10).front().bytes, 2 * kShape.layers * kBlockBytes);
  EXPECT_EQ(store_->Tenants(10).front().sequences, 1U);
  EXPECT_TRUE(Check(id, 0, 128, 1).ok());
  EXPECT_EQ(store_->Fork(kTenant, id, 64, OwnerId(1)).status().code(),
            StatusCode::kResourceExhausted);
  ASSERT_TRUE(store_->Close(kTenant, id).ok());
  EXPECT_EQ(store_->Tenants(10).front().bytes, 0U);
  EXPECT_EQ(store_->Tenants(10).front().sequences, 0U);
}

TEST_F(StoreRestartTest, IdsDifferWithoutACatalogToo) {
  std::set<uint64_t> given;
  for (int run = 0; run < 3; ++run) {
    auto store = Store::Create({.arena = {.bytes = kMiB}});
    ASSERT_TRUE(store.ok());
    store_ = *std::move(store);
    for (int i = 0; i < 10; ++i) EXPECT_TRUE(given.insert(Open().value()).second);
  }
}

TEST_F(StoreRestartTest, ASealedSequenceIsBackWithItsBytesPrefixAndModel) {
  const auto ids = Ids(200, 1);
  const SequenceId id = Open(ids);
  Append(id, 0, 150, 1);
  ASSERT_TRUE(store_->Seal(kTenant, id).ok());
  CrashAndStart();
  EXPECT_EQ(store_->Stats().restored_sequences, 1u);
  const auto model = store_->FindModel("m");
  ASSERT_TRUE(model.ok());
  EXPECT_EQ(model->name, "Model");
  EXPECT_EQ(model->shape, kShape);
  EXPECT_EQ(model->detail, std::string("\0x", 2));
  const auto info = store_->Stat(kTenant, id);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->state, SequenceState::kSealed);
  EXPECT_EQ(info->committed_tokens, 150u);
  EXPECT_EQ(info->known_tokens, 200u);
  EXPECT_EQ(info->resident_bytes, 0u);
  EXPECT_EQ(store_->Stats().used_bytes, 0u) << "nothing is read before it is asked for";
  EXPECT_TRUE(Check(id, 0, 150, 1).ok()) << Check(id, 0, 150, 1);
  EXPECT_EQ(*store_->Lookup(kTenant, "m", ids), 128u);
  EXPECT_EQ(store_->Stat("bob", id).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(*store_->Lookup("bob", "m", ids), 0u);
  EXPECT_EQ(store_->BeginAppend(kTenant, id, 0, 150, 1).status().code(),
            StatusCode::kFailedPrecondition);
  // A prefix of it is the beginning of another.
  const SequenceId next = Open(ids);
  EXPECT_EQ(store_->Stat(kTenant, next)->committed_tokens, 128u);
  EXPECT_TRUE(Check(next, 0, 128, 1).ok());
  // So is a fork, in the middle of its last block.
  const auto fork = store_->Fork(kTenant, id, 140, OwnerId(2));
  ASSERT_TRUE(fork.ok()) << fork.status();
  Append(*fork, 140, 60, 2);
  EXPECT_TRUE(Check(*fork, 0, 140, 1).ok());
  EXPECT_TRUE(Check(*fork, 140, 60, 2).ok());
  EXPECT_TRUE(Check(id, 0, 150, 1).ok());
}

TEST_F(StoreRestartTest, WhatIsNotSealedIsGone) {
  const SequenceId id = Open(Ids(128, 1));
  Append(id, 0, 128, 1);
  CrashAndStart();
  EXPECT_EQ(Check(id, 0, 64, 1).code(), StatusCode::kNotFound);
  Register();
  EXPECT_EQ(*store_->Lookup(kTenant, "m", Ids(128, 1)), 0u);
  EXPECT_EQ(tier_->Stats().blocks, 0u);
}

TEST_F(StoreRestartTest, SharedColumnsAreRecordedOnce) {
  const auto prefix = Ids(256, 1);
  std::vector<SequenceId> ids;
  for (uint32_t i = 0; i < 20; ++i) {
    auto tokens = prefix;
    tokens.resize(300, i);
    ids.push_back(Open(tokens));
    const uint64_t have = store_->Stat(kTenant, ids.back())->committed_tokens;
    EXPECT_EQ(have, i == 0 ? 0u : 256u);
    Append(ids.back(), have, 300 - have, 1);
    ASSERT_TRUE(store_->Seal(kTenant, ids.back()).ok());
  }
  EXPECT_EQ(catalog_.records(RecordKind::kColumn), 4u);
  EXPECT_EQ(catalog_.records(RecordKind::kSequence), 20u);
  CrashAndStart();
  for (const SequenceId id : ids) EXPECT_TRUE(Check(id, 0, 300, 1).ok());
  EXPECT_LE(tier_->Stats().blocks, 2u * (4 + 20));
  for (const SequenceId id : ids) ASSERT_TRUE(store_->Close(kTenant, id).ok());
  Settle();
  EXPECT_EQ(catalog_.records(RecordKind::kColumn), 0u);
  EXPECT_EQ(catalog_.records(RecordKind::kSequence), 0u);
}

TEST_F(StoreRestartTest, AClosedSequenceDoesNotComeBack) {
  const SequenceId one = Open(Ids(128, 1));
  Append(one, 0, 128, 1);
  ASSERT_TRUE(store_->Seal(kTenant, one).ok());
  const SequenceId two = *store_->Fork(kTenant, one, 128, OwnerId(1));
  Append(two, 128, 64, 2);
  ASSERT_TRUE(store_->Seal(kTenant, two).ok());
  ASSERT_TRUE(store_->Close(kTenant, one).ok());
  Settle();
  CrashAndStart();
  EXPECT_EQ(store_->Stat(kTenant, one).status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(Check(two, 0, 128, 1).ok());
  EXPECT_TRUE(Check(two, 128, 64, 2).ok());
  EXPECT_EQ(catalog_.records(RecordKind::kColumn), 3u);
}

TEST_F(StoreRestartTest, ASealedTailDoesNotStayInRamForever) {
  for (uint64_t i = 0; i < 40; ++i) {  // their tails alone would fill 80 slots of 64
    const SequenceId id = Open();
    Append(id, 0, 10, i);
    ASSERT_TRUE(store_->Seal(kTenant, id).ok());
    EXPECT_TRUE(Check(id, 0, 10, i).ok());
  }
  EXPECT_LE(store_->Stats().used_bytes, 64 * kBlockBytes);
}

TEST_F(StoreRestartTest, ATailThatAnotherSequenceWritesOnIsKeptAsItWas) {
  const SequenceId one = Open();
  Append(one, 0, 30, 1);
  const SequenceId two = *store_->Fork(kTenant, one, 30, OwnerId(1));
  ASSERT_TRUE(store_->Seal(kTenant, two).ok());
  Append(one, 30, 34, 2);
  ASSERT_TRUE(store_->Seal(kTenant, one).ok());
  CrashAndStart();
  EXPECT_TRUE(Check(two, 0, 30, 1).ok());
  EXPECT_EQ(store_->Stat(kTenant, two)->committed_tokens, 30u);
  EXPECT_TRUE(Check(one, 0, 30, 1).ok());
  EXPECT_TRUE(Check(one, 30, 34, 2).ok());
}

TEST_F(StoreRestartTest, ABlockThatTwoSequencesKeepOutlivesEitherOne) {
  const SequenceId one = Open();
  Append(one, 0, 100, 1);
  ASSERT_TRUE(store_->Seal(kTenant, one).ok());
  std::vector<SequenceId> forks;
  for (const uint64_t tokens : {100, 80, 64, 30}) {
    forks.push_back(*store_->Fork(kTenant, one, tokens, OwnerId(1)));
    ASSERT_TRUE(store_->Seal(kTenant, forks.back()).ok());
  }
  CrashAndStart();
  ASSERT_TRUE(store_->Close(kTenant, one).ok());
  ASSERT_TRUE(store_->Close(kTenant, forks[2]).ok());
  Settle();
  EXPECT_TRUE(Check(forks[0], 0, 100, 1).ok());
  EXPECT_TRUE(Check(forks[1], 0, 80, 1).ok());
  EXPECT_TRUE(Check(forks[3], 0, 30, 1).ok());
  CrashAndStart();
  EXPECT_TRUE(Check(forks[0], 0, 100, 1).ok());
}

TEST_F(StoreRestartTest, UnevenLayersAreKeptUpToWhatIsCommitted) {
  const SequenceId id = Open();
  Append(id, 0, 100, 1);
  {
    auto slot = store_->BeginAppend(kTenant, id, 0, 100, 10);
    ASSERT_TRUE(slot.ok());
    ASSERT_TRUE(slot->Commit().ok());
  }
  ASSERT_TRUE(store_->Seal(kTenant, id).ok());
  PinnedRows rows;
  EXPECT_TRUE(store_->ResolveRange(kTenant, id, 0, 100, 10, rows).ok()) << "still there";
  rows.Clear();
  CrashAndStart();
  EXPECT_EQ(store_->Stat(kTenant, id)->committed_tokens, 100u);
  EXPECT_TRUE(Check(id, 0, 100, 1).ok());
}

TEST_F(StoreRestartTest, ADamagedBlockCostsOnlyItself) {
  const SequenceId id = Open(Ids(192, 1));
  Append(id, 0, 192, 1);
  const SequenceId other = Open(Ids(64, 2));
  Append(other, 0, 64, 2);
  ASSERT_TRUE(store_->Seal(kTenant, id).ok());
  ASSERT_TRUE(store_->Seal(kTenant, other).ok());
  CrashAndStart();
  MissingBlocks missing;
  PinnedRows rows;
  ASSERT_TRUE(store_->ResolveRange(kTenant, id, 1, 64, 64, rows, missing).ok());
  tier_->Damage(missing.parts().at(0).block->address());
  missing.Clear();
  EXPECT_EQ(Check(id, 64, 64, 1).code(), StatusCode::kDataLoss);
  EXPECT_TRUE(Check(id, 0, 64, 1).ok());
  EXPECT_TRUE(Check(id, 128, 64, 1).ok());
  EXPECT_TRUE(Check(other, 0, 64, 2).ok());
  EXPECT_EQ(store_->Stats().lost_blocks, 1u);
  EXPECT_EQ(*store_->Lookup(kTenant, "m", Ids(192, 1)), 64u) << "no prefix leads through it";
}

TEST_F(StoreRestartTest, ADamagedRecordCostsOnlyWhatItNames) {
  const SequenceId one = Open(Ids(64, 1));
  Append(one, 0, 64, 1);
  const SequenceId two = Open(Ids(64, 2));
  Append(two, 0, 70, 2);
  ASSERT_TRUE(store_->Seal(kTenant, one).ok());
  ASSERT_TRUE(store_->Seal(kTenant, two).ok());
  catalog_.Truncate(RecordKind::kSequence, NumberKey(one.value()));
  CrashAndStart();
  EXPECT_EQ(store_->Stats().damaged_records, 1u);
  EXPECT_EQ(store_->Stat(kTenant, one).status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(Check(two, 0, 70, 2).ok());
  catalog_.Truncate(RecordKind::kColumn, NumberKey(2));
  CrashAndStart();
  EXPECT_EQ(store_->Stats().left_out_sequences, 1u);
  EXPECT_EQ(store_->Stat(kTenant, two).status().code(), StatusCode::kNotFound);
}

TEST_F(StoreRestartTest, ASealThatFailsSaysSoAndMayBeTriedAgain) {
  const SequenceId id = Open();
  Append(id, 0, 100, 1);
  catalog_.Fail(true);
  EXPECT_EQ(store_->Seal(kTenant, id).code(), StatusCode::kUnavailable);
  EXPECT_EQ(store_->Stat(kTenant, id)->state, SequenceState::kSealed);
  EXPECT_TRUE(Check(id, 0, 100, 1).ok());
  catalog_.Fail(false);
  EXPECT_TRUE(store_->Seal(kTenant, id).ok());
  EXPECT_EQ(store_->Stats().seal_failures, 1u);
  CrashAndStart();
  EXPECT_TRUE(Check(id, 0, 100, 1).ok());
}

TEST_F(StoreRestartTest, SealAllKeepsEverythingThatHasRows) {
  std::vector<SequenceId> ids;
  for (uint64_t i = 0; i < 10; ++i) {
    ids.push_back(Open());
    if (i > 0) Append(ids.back(), 0, i * 7, i);
  }
  EXPECT_EQ(store_->SealAll([](uint64_t, uint64_t) {}), 0u);
  EXPECT_EQ(store_->SealAll([](uint64_t, uint64_t) {}), 0u) << "twice";
  CrashAndStart();
  EXPECT_EQ(store_->Stats().restored_sequences, 9u);
  for (uint64_t i = 1; i < 10; ++i) EXPECT_TRUE(Check(ids[i], 0, i * 7, i).ok());
}

TEST_F(StoreRestartTest, AStoreThatIsTooSmallErasesNothing) {
  std::vector<SequenceId> ids;
  for (uint64_t i = 0; i < 3; ++i) {
    ids.push_back(Open());
    Append(ids.back(), 0, 70, i);
    ASSERT_TRUE(store_->Seal(kTenant, ids.back()).ok());
  }
  store_.reset();
  {
    const auto small =
        Store::Create({.arena = {.bytes = 16 * kBlockBytes, .slab_bytes = kBlockBytes},
                       .max_sequences = 1,
                       .tier = tier_.get(),
                       .catalog = &catalog_});
    ASSERT_TRUE(small.ok()) << small.status();
    EXPECT_EQ((*small)->Stats().restored_sequences, 1u);
    EXPECT_EQ((*small)->Stats().left_out_sequences, 2u);
  }
  Start();
  for (uint64_t i = 0; i < 3; ++i) EXPECT_TRUE(Check(ids[i], 0, 70, i).ok());
}

TEST_F(StoreRestartTest, WhatTheTierForgotIsKnownToBeLost) {
  const SequenceId id = Open(Ids(64, 1));
  Append(id, 0, 64, 1);
  ASSERT_TRUE(store_->Seal(kTenant, id).ok());
  // Filling the rest of the tier drops its first generation.
  auto small = std::make_unique<MemoryTier>(32 * kBlockBytes, 4 * kBlockBytes);
  store_.reset();
  MemoryCatalog catalog;
  auto store = Store::Create({.arena = {.bytes = 16 * kBlockBytes, .slab_bytes = kBlockBytes},
                              .tier = small.get(),
                              .catalog = &catalog});
  ASSERT_TRUE(store.ok());
  store_ = *std::move(store);
  const SequenceId old = Open(Ids(64, 1));
  Append(old, 0, 64, 1);
  ASSERT_TRUE(store_->Seal(kTenant, old).ok());
  for (uint64_t i = 0; i < 40; ++i) {
    const SequenceId next = Open(Ids(64, static_cast<uint32_t>(i) + 100));
    for (int tries = 0; tries < 1000; ++tries) {
      const auto slot = store_->BeginAppend(kTenant, next, 0, 0, 1);
      if (slot.ok()) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    Append(next, 0, 64, i);
    ASSERT_TRUE(store_->Seal(kTenant, next).ok());
  }
  EXPECT_GT(store_->Stats().dropped_generations, 0u);
  EXPECT_TRUE(Eventually([&] { return store_->Stats().lost_seals > 0; })) << "it is counted";
  store_.reset();
  store = Store::Create({.arena = {.bytes = 16 * kBlockBytes, .slab_bytes = kBlockBytes},
                         .tier = small.get(),
                         .catalog = &catalog});
  ASSERT_TRUE(store.ok());
  EXPECT_EQ(*(*store)->Lookup(kTenant, "m", Ids(64, 1)), 0u);
  PinnedRows rows;
  EXPECT_EQ((*store)->ResolveRange(kTenant, old, 0, 0, 64, rows).code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace passband
