// Goal: what the prefix index holds of the tier is back after a crash, whatever became of the
// sequences that computed it; it stays with its tenant, goes when the index lets go of it, and is
// never more than the tier holds; damage costs what it hits.
#include <gtest/gtest.h>

#include "kvstore/catalog_records.h"
#include "tests/kvstore/store_restart_fixture.h"

namespace passband {
namespace {

using test::kBlockBytes;
using test::kShape;
using test::kTenant;

class PrefixRestartTest : public test::StoreRestartTest {
 protected:
  // A sequence that is filled, sealed and closed.
  void SealAndClose(const std::vector<uint32_t>& ids, uint64_t salt, const char* tenant = kTenant) {
    const SequenceId id = Open(ids, tenant);
    const uint64_t have = store_->Stat(tenant, id)->committed_tokens;
    Append(id, have, ids.size() - have, salt, tenant);
    ASSERT_TRUE(store_->Seal(tenant, id).ok());
    ASSERT_TRUE(store_->Close(tenant, id).ok());
    Settle();
  }
  uint64_t Found(const std::vector<uint32_t>& ids, const char* tenant = kTenant) {
    return *store_->Lookup(tenant, "m", ids);
  }
  // A sequence attaches it, and reads it.
  Status Attach(const std::vector<uint32_t>& ids, uint64_t tokens, uint64_t salt) {
    const auto opened =
        store_->Open({.tenant = kTenant, .model = "m", .owner = OwnerId(1), .token_ids = ids});
    PASSBAND_RETURN_IF_ERROR(opened.status());
    if (opened->matched_tokens != tokens) {
      return Error(StatusCode::kInternal, "{} tokens match, not {}", opened->matched_tokens,
                   tokens);
    }
    const Status read = Check(opened->id, 0, tokens, salt);
    PASSBAND_RETURN_IF_ERROR(store_->Close(kTenant, opened->id));
    return read;
  }
  bool EventuallyRecorded(uint64_t columns) {
    return Eventually([&] { return store_->Stats().recorded_prefix_blocks >= columns; });
  }
  // Out of RAM: other rows fill it.
  void FillRam() {
    const SequenceId id = Open();
    for (uint64_t at = 0; at < ram_blocks_ / kShape.layers; ++at) {
      ASSERT_TRUE(Eventually([&] { return AppendBlock(id, at * kBlockTokens); }));
    }
    ASSERT_TRUE(store_->Close(kTenant, id).ok());
  }
  bool AppendBlock(SequenceId id, uint64_t first) {
    for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
      auto slot = store_->BeginAppend(kTenant, id, layer, first, kBlockTokens);
      if (slot.status().code() == StatusCode::kAlreadyExists) continue;
      if (!slot.ok() || !slot->Commit().ok()) return false;
    }
    return true;
  }
};

TEST_F(PrefixRestartTest, OfAClosedSequenceThePrefixIsBack) {
  const auto ids = Ids(200, 1);
  SealAndClose(ids, 1);
  EXPECT_EQ(catalog_.records(RecordKind::kSequence), 0U);
  EXPECT_EQ(catalog_.records(RecordKind::kColumn), 0U);
  EXPECT_EQ(catalog_.records(RecordKind::kPrefix), 3U);
  for (int run = 0; run < 3; ++run) {
    CrashAndStart();
    const StoreStats stats = store_->Stats();
    EXPECT_EQ(stats.restored_sequences, 0U);
    EXPECT_EQ(stats.restored_prefix_blocks, 3U);
    EXPECT_EQ(stats.prefix_blocks, 3U);
    EXPECT_EQ(stats.used_bytes, 0U) << "nothing is read before it is asked for";
    EXPECT_EQ(tier_->Stats().blocks, 3U * kShape.layers);
    EXPECT_EQ(Found(ids), 192U);
    const Status attached = Attach(ids, 192, 1);
    EXPECT_TRUE(attached.ok()) << attached;
  }
}

TEST_F(PrefixRestartTest, ItIsContinuedAndTheWholeIsBack) {
  const auto longer = Ids(400, 1);
  SealAndClose({longer.begin(), longer.begin() + 200}, 1);
  CrashAndStart();
  SealAndClose(longer, 1);
  CrashAndStart();
  EXPECT_EQ(store_->Stats().restored_prefix_blocks, 6U);
  const Status attached = Attach(longer, 384, 1);
  EXPECT_TRUE(attached.ok()) << attached;
}

TEST_F(PrefixRestartTest, ItIsItsTenantsAndOnNobodysBill) {
  const auto ids = Ids(128, 1);
  SealAndClose(ids, 1);
  SealAndClose(ids, 2, "bob");
  quota_ = {.bytes = kShape.layers * kBlockBytes, .sequences = {}};
  CrashAndStart();
  EXPECT_EQ(store_->Stats().prefix_blocks, 4U);
  EXPECT_EQ(Found(ids, "eve"), 0U);
  for (const TenantUse& use : store_->Tenants(10)) EXPECT_EQ(use.bytes, 0U) << use.tenant;
  EXPECT_EQ(Attach(ids, 128, 1).code(), StatusCode::kResourceExhausted) << "it pays to attach it";
  const auto half = Ids(64, 1);
  EXPECT_TRUE(Attach(half, 64, 1).ok()) << Attach(half, 64, 1);
  quota_ = {};
  CrashAndStart();
  EXPECT_TRUE(Attach(ids, 128, 1).ok());
  const SequenceId bobs = Open(ids, "bob");
  EXPECT_TRUE(Check(bobs, 0, 128, 2, "bob").ok());
}

TEST_F(PrefixRestartTest, ASealedSequenceAndItsPrefixAreOne) {
  const auto ids = Ids(150, 1);
  const SequenceId id = Open(ids);
  Append(id, 0, 150, 1);
  ASSERT_TRUE(store_->Seal(kTenant, id).ok());
  CrashAndStart();
  EXPECT_EQ(store_->Stats().restored_prefix_blocks, 0U) << "the sequence brought them";
  EXPECT_EQ(store_->Stats().prefix_blocks, 2U);
  EXPECT_EQ(store_->Stats().recorded_prefix_blocks, 2U);
  ASSERT_TRUE(store_->Close(kTenant, id).ok());
  Settle();
  CrashAndStart();
  EXPECT_EQ(store_->Stats().restored_prefix_blocks, 2U);
  EXPECT_TRUE(Attach(ids, 128, 1).ok());
}

// Nobody seals: what left RAM for the tier is back all the same.
TEST_F(PrefixRestartTest, WhatWasNeverSealedIsBackOnceItIsInTheTier) {
  const auto ids = Ids(256, 1);
  const SequenceId id = Open(ids);
  Append(id, 0, 256, 1);
  ASSERT_EQ(store_->CloseOwned(OwnerId(1)), 1U);
  FillRam();
  ASSERT_TRUE(EventuallyRecorded(4)) << store_->Stats().recorded_prefix_blocks;
  EXPECT_EQ(catalog_.records(RecordKind::kPrefix), 4U);
  CrashAndStart();
  EXPECT_EQ(store_->Stats().restored_prefix_blocks, 4U);
  const Status attached = Attach(ids, 256, 1);
  EXPECT_TRUE(attached.ok()) << attached;
}

// The beginning is used all the time, and stays in RAM; what continues it does not.
TEST_F(PrefixRestartTest, TheBeginningOfAStoredPrefixIsStoredAsWell) {
  const auto ids = Ids(64 * 8, 1);
  const SequenceId whole = Open(ids);
  Append(whole, 0, ids.size(), 1);
  const SequenceId next = Open({ids.begin(), ids.begin() + 128});
  ASSERT_TRUE(store_->Close(kTenant, whole).ok());
  for (uint64_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(Check(next, 0, 128, 1).ok());
    FillRam();
  }
  ASSERT_TRUE(EventuallyRecorded(8)) << store_->Stats().recorded_prefix_blocks;
  EXPECT_EQ(catalog_.records(RecordKind::kPrefix), 8U);
  CrashAndStart();
  const Status attached = Attach(ids, ids.size(), 1);
  EXPECT_TRUE(attached.ok()) << attached;
}

TEST_F(PrefixRestartTest, WhatTheIndexLetGoOfDoesNotComeBack) {
  const auto ids = Ids(128, 1);
  SealAndClose(ids, 1);
  EXPECT_GT(store_->Evict(~uint64_t{0}), 0U);
  EXPECT_EQ(Found(ids), 0U);
  EXPECT_TRUE(Eventually([&] { return catalog_.records(RecordKind::kPrefix) == 0; }));
  CrashAndStart();
  EXPECT_EQ(Found(ids), 0U);
  EXPECT_EQ(tier_->Stats().blocks, 0U);
}

// The records are a moment behind the blocks.
TEST_F(PrefixRestartTest, ARecordWhoseBlocksAreGoneIsErased) {
  const auto ids = Ids(128, 1);
  SealAndClose(ids, 1);
  catalog_.Freeze(true);
  EXPECT_GT(store_->Evict(~uint64_t{0}), 0U);
  CrashAndStart();
  EXPECT_EQ(catalog_.records(RecordKind::kPrefix), 0U);
  EXPECT_EQ(Found(ids), 0U);
  EXPECT_EQ(store_->Stats().damaged_records, 0U);
}

TEST_F(PrefixRestartTest, ADamagedRecordCostsItsColumnAndWhatContinuesIt) {
  const auto one = Ids(192, 1);
  const auto two = Ids(192, 2);
  SealAndClose(one, 1);
  SealAndClose(two, 2);
  std::vector<PrefixDigest> chain;
  ExtendPrefixChain(PrefixRoot("m", kTenant), one, chain);
  catalog_.Truncate(RecordKind::kPrefix, DigestKey(chain[1]));
  CrashAndStart();
  EXPECT_EQ(store_->Stats().damaged_records, 1U);
  EXPECT_EQ(store_->Stats().restored_prefix_blocks, 4U);
  EXPECT_TRUE(Attach(one, 64, 1).ok()) << Attach(one, 64, 1);
  EXPECT_TRUE(Attach(two, 192, 2).ok()) << Attach(two, 192, 2);
  EXPECT_EQ(catalog_.records(RecordKind::kPrefix), 5U) << "the third can never be reached";
  // Computed again, it is recorded again.
  SealAndClose(one, 1);
  CrashAndStart();
  EXPECT_EQ(store_->Stats().damaged_records, 0U);
  EXPECT_TRUE(Attach(one, 192, 1).ok()) << Attach(one, 192, 1);
}

TEST_F(PrefixRestartTest, ADamagedRecordOfAColumnThatASequenceHasCostsNothing) {
  const auto ids = Ids(192, 1);
  const SequenceId kept = Open({ids.begin(), ids.begin() + 64});
  Append(kept, 0, 64, 1);
  ASSERT_TRUE(store_->Seal(kTenant, kept).ok());
  SealAndClose(ids, 1);
  std::vector<PrefixDigest> chain;
  ExtendPrefixChain(PrefixRoot("m", kTenant), ids, chain);
  catalog_.Truncate(RecordKind::kPrefix, DigestKey(chain[0]));
  CrashAndStart();
  EXPECT_TRUE(Attach(ids, 192, 1).ok()) << Attach(ids, 192, 1);
}

TEST_F(PrefixRestartTest, ADamagedBlockIsFoundOutAndCostsOnlyItself) {
  const auto ids = Ids(192, 1);
  SealAndClose(ids, 1);
  SealAndClose(Ids(64, 2), 2);
  CrashAndStart();
  const SequenceId id = Open(ids);
  MissingBlocks missing;
  PinnedRows rows;
  ASSERT_TRUE(store_->ResolveRange(kTenant, id, 1, 64, 64, rows, missing).ok());
  tier_->Damage(missing.parts().at(0).block->address());
  missing.Clear();
  EXPECT_EQ(Check(id, 64, 64, 1).code(), StatusCode::kDataLoss) << "never other bytes";
  EXPECT_EQ(Found(ids), 64U) << "nobody attaches it again";
  EXPECT_TRUE(Check(id, 0, 64, 1).ok());
  ASSERT_TRUE(store_->Close(kTenant, id).ok());
  EXPECT_TRUE(Attach(Ids(64, 2), 64, 2).ok());
  SealAndClose(ids, 1);  // computed again
  CrashAndStart();
  EXPECT_TRUE(Attach(ids, 192, 1).ok()) << Attach(ids, 192, 1);
}

TEST_F(PrefixRestartTest, RecordsAreNeverMoreThanTheTierHolds) {
  constexpr uint64_t kTierBlocks = 32;
  UseTier(kTierBlocks, 8);
  for (uint32_t i = 0; i < 60; ++i) SealAndClose(Ids(64, 100 + i), i);
  EXPECT_GT(store_->Stats().dropped_generations, 5U);
  const uint64_t most = kTierBlocks / kShape.layers;
  EXPECT_TRUE(Eventually([&] { return catalog_.records(RecordKind::kPrefix) <= most; }))
      << catalog_.records(RecordKind::kPrefix);
  CrashAndStart();
  EXPECT_GT(store_->Stats().restored_prefix_blocks, 0U);
  EXPECT_LE(store_->Stats().restored_prefix_blocks, most);
  uint64_t found = 0;
  for (uint32_t i = 0; i < 60; ++i) {
    if (Found(Ids(64, 100 + i)) == 0) continue;
    ++found;
    const Status attached = Attach(Ids(64, 100 + i), 64, i);
    EXPECT_TRUE(attached.ok()) << attached;
  }
  EXPECT_EQ(found, store_->Stats().restored_prefix_blocks);
}

TEST_F(PrefixRestartTest, WhatATierForgetsThatIsInRamIsRecordedAnew) {
  ram_blocks_ = 4096;
  UseTier(32, 8);
  const auto ids = Ids(128, 1);
  SealAndClose(ids, 1);
  const uint64_t goal = 6;
  for (uint32_t i = 0; store_->Stats().dropped_generations < goal; ++i) {
    ASSERT_LT(i, 1000U);
    SealAndClose(Ids(64, 1000 + i), i);
  }
  // In RAM, but the tier has it no more; when it is written again is the evictor's affair.
  EXPECT_EQ(Found(ids), 128U);
  const SequenceId id = Open(ids);
  ASSERT_TRUE(store_->Seal(kTenant, id).ok());
  ASSERT_TRUE(store_->Close(kTenant, id).ok());
  Settle();
  CrashAndStart();
  EXPECT_TRUE(Attach(ids, 128, 1).ok()) << Attach(ids, 128, 1);
}

// Nothing that is wanted is forgotten for room; prefixes that nobody uses are not.
TEST_F(PrefixRestartTest, ATierThatRejectsHasRoomForWhatIsSealed) {
  full_tier_ = FullTierPolicy::kReject;
  UseTier(32, 8);
  const SequenceId kept = Open(Ids(64, 1));
  Append(kept, 0, 64, 1);
  ASSERT_TRUE(store_->Seal(kTenant, kept).ok());
  for (uint32_t i = 0; i < 40; ++i) SealAndClose(Ids(64, 100 + i), i);
  EXPECT_EQ(store_->Stats().seal_failures, 0U);
  EXPECT_EQ(store_->Stats().dropped_generations, 0U);
  CrashAndStart();
  const uint64_t restored = store_->Stats().restored_prefix_blocks;
  EXPECT_GT(restored, 0U);
  EXPECT_LE(restored, 32 / kShape.layers);
  for (uint32_t i = 0; i < 40; ++i) SealAndClose(Ids(64, 200 + i), i);
  EXPECT_TRUE(Check(kept, 0, 64, 1).ok());
  EXPECT_TRUE(Attach(Ids(64, 239), 64, 39).ok()) << "the latest stay";
}

TEST_F(PrefixRestartTest, ACatalogThatFailsCostsNoRecordInTheEnd) {
  const auto ids = Ids(256, 1);
  const SequenceId id = Open(ids);
  Append(id, 0, 256, 1);
  ASSERT_EQ(store_->CloseOwned(OwnerId(1)), 1U);
  catalog_.Fail(true);
  FillRam();
  EXPECT_TRUE(Eventually([&] { return catalog_.refused() > 0; }));
  EXPECT_EQ(store_->Stats().recorded_prefix_blocks, 0U);
  EXPECT_EQ(catalog_.records(RecordKind::kPrefix), 0U);
  catalog_.Fail(false);
  EXPECT_TRUE(Eventually([&] { return catalog_.records(RecordKind::kPrefix) == 4; }));
  CrashAndStart();
  EXPECT_TRUE(Attach(ids, 256, 1).ok());
}

}  // namespace
}  // namespace passband
